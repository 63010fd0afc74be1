"""Simultaneous intervals: against formulas, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.error_rates import coverage, different, stored
from runner.evaluation.metrics.simultaneous import (
    clusters_needed,
    pairwise_widening,
    simultaneous,
    widening,
)
from runner.evaluation.metrics.statistics import Interval, mean_interval

pytestmark = pytest.mark.unit


def test_one_contrast_keeps_its_interval_and_copies_of_it_nearly() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, (1, 12))
    own = mean_interval(values[0])
    assert simultaneous([own], values) == [own]
    assert 1 <= widening(np.vstack([values, -3 * values, values + 5])) <= 1.11


def test_skewed_contrasts_get_wider_intervals_but_by_a_tenth_at_most() -> None:
    """Bonferroni's is the most for normal ones."""
    generator = np.random.default_rng(4)
    for clusters, least in ((24, 1.02), (300, 0.9)):
        skewed = generator.exponential(1, (4, clusters)) ** 2
        critical = float(stats.t.ppf(1 - 0.025 / 4, clusters - 1))
        bonferroni = critical / float(stats.t.ppf(0.975, clusters - 1))
        assert least < widening(skewed) / bonferroni < 1.11
        assert (widening(skewed) > 1.02 * bonferroni) is (clusters == 24)


def test_what_does_not_vary_does_not_count() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, (2, 12))
    still = np.vstack([values, np.full((40, 12), 0.3), np.zeros((40, 12))])
    assert widening(still) == pytest.approx(widening(values), rel=0.01)
    assert widening(np.zeros((3, 12))) == widening(values[:, :1]) == 1.0


def test_unrelated_contrasts_have_bonferronis_interval() -> None:
    """Orthogonal residuals: u of each is a coordinate of a direction in space."""
    waves = np.array([np.cos(np.arange(64) * math.pi * k / 32) for k in range(1, 31)])
    for count in (3, 30):
        bonferroni = float(stats.t.ppf(1 - 0.025 / count, 63)) / float(stats.t.ppf(0.975, 63))
        assert 0.985 < widening(waves[:count]) / bonferroni < 1.1


def test_all_pairs_of_alike_recipes_have_tukeys_interval() -> None:
    """Residuals of equal length and correlation one half: the studentized range over root two."""
    own = np.array([np.cos(np.arange(64) * math.pi * k / 32) for k in range(1, 6)])
    means = np.array([own[a] - own[b] for a in range(5) for b in range(a)])
    tukey = float(stats.studentized_range.ppf(0.95, 5, 63)) / math.sqrt(2)
    assert 0.98 < widening(means) / (tukey / float(stats.t.ppf(0.975, 63))) < 1.1


def test_an_interval_is_widened_around_its_estimate_and_an_infinite_one_stays() -> None:
    means = np.random.default_rng(1).normal(0, 1, (3, 9))
    factor = widening(means)
    assert 1.1 < factor < 1.6
    found = simultaneous(
        [Interval(1.0, 0.5, 1.75), Interval(2.0, -math.inf, math.inf), Interval(0, 0, 0)], means
    )
    assert (found[0].low, found[0].high) == pytest.approx((1 - factor * 0.5, 1 + factor * 0.75))
    assert (found[1].low, found[1].high) == (-math.inf, math.inf)
    assert found[2] == Interval(0, 0, 0)
    assert widening(means) == factor, "the same data, the same interval"


@pytest.mark.parametrize(("clusters", "effect"), [(6, 0.5), (16, 0.25), (16, 0.05)])
def test_the_clusters_needed_are_those_of_students_test(clusters: int, effect: float) -> None:
    half = float(stats.t.ppf(0.975, clusters - 1)) / math.sqrt(clusters)
    interval = Interval(effect, effect - half, effect + half)  # of a standard deviation of 1
    needed = clusters_needed(interval, clusters)
    assert needed is not None and needed > clusters
    for number, enough in ((needed, True), (needed - 1, False)):
        reach = stats.t.ppf(0.975, number - 1) + stats.norm.ppf(0.8)
        assert bool(reach <= effect * math.sqrt(number)) is enough
    # Student's own power is what was aimed for.
    critical = stats.t.ppf(0.975, needed - 1)
    assert stats.nct.sf(critical, needed - 1, effect * math.sqrt(needed)) == pytest.approx(
        0.8, abs=0.02
    )
    mirrored = clusters_needed(Interval(-effect, -effect - half, half - effect), clusters)
    assert mirrored == needed
    moved = Interval(effect + 3, effect + 3 - half, effect + 3 + half)
    assert clusters_needed(moved, clusters, boundary=3.0) == needed
    least = clusters_needed(interval, clusters, power=0.5)
    assert least is not None and clusters < least < needed


def test_nothing_is_promised_where_no_number_would_do() -> None:
    assert clusters_needed(Interval(0.0, -1.0, 1.0), 8) is None
    assert clusters_needed(Interval(1.0, -math.inf, math.inf), 1) is None
    assert clusters_needed(Interval(1e-9, -1.0, 1.0), 8) is None


def test_pairs_are_the_differences_of_their_sides() -> None:
    for sides, clusters in ((4, 30), (9, 6), (2, 5)):
        means = np.random.default_rng(sides).normal(0, 1, (sides, clusters))
        pairs = np.array([means[a] - means[b] for a in range(sides) for b in range(a)])
        assert pairwise_widening(means) == pytest.approx(widening(pairs), rel=0.02)


def test_of_very_many_bonferronis_bound_does() -> None:
    means = np.random.default_rng(5).normal(0, 1, (301, 20))
    bonferroni = float(stats.t.ppf(1 - 0.025 / (301 * 150), 19)) / float(stats.t.ppf(0.975, 19))
    assert pairwise_widening(means) == pytest.approx(bonferroni)


@pytest.mark.parametrize(("quantity", "plain"), [("log perplexity", 0.86), ("KL divergence", 0.86)])
def test_intervals_of_recipes_on_one_text_hold_together(quantity: str, plain: float) -> None:
    """All ten differences of five recipes, 16 articles; `python -m benchmarks.error_rates`."""
    recipes, values = stored()
    some = values[quantity][different(recipes)]
    each, all_as_they_are, together = coverage(some, 16, 250)
    assert each == pytest.approx(0.95, abs=0.02)
    assert all_as_they_are < plain
    assert 0.93 <= together <= 0.97
