"""Intervals and summaries, against scipy and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from runner.evaluation.metrics.statistics import (
    effective_number,
    intraclass_correlation,
    mean_interval,
    summarise,
    totals,
)

pytestmark = pytest.mark.unit


def test_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 12)
    found = mean_interval(values)
    test = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((test.low, test.high))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        interval = mean_interval(generator.normal(1.0, 1.0, 6))
        hits += interval.low <= 1.0 <= interval.high
    # Three standard errors of a proportion; a normal interval instead of t would cover 90%.
    assert hits / 1000 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 1000))


def test_pairing_takes_out_what_both_share() -> None:
    generator = np.random.default_rng(2)
    difficulty = generator.normal(0.0, 1.0, 16)
    one = difficulty + generator.normal(0.1, 0.01, 16)
    paired = mean_interval(one - difficulty)
    apart = stats.ttest_ind(one, difficulty).confidence_interval(0.95)
    assert paired.high - paired.low < 0.05 * (apart.high - apart.low)
    assert paired.low > 0 > apart.low


def test_one_value_has_no_interval() -> None:
    found = mean_interval(np.array([2.0]))
    assert (found.estimate, found.low, found.high) == (2.0, -math.inf, math.inf)


def test_summary() -> None:
    samples = [float(value) for value in range(101)]
    found = summarise(samples)
    assert found.mean == 50.0
    assert found.sd == pytest.approx(np.std(samples, ddof=1))
    assert (found.p50, found.p90, found.p99) == (50.0, 90.0, 99.0)
    assert found.samples == samples
    assert found.samples is not samples


def test_summary_of_one_sample() -> None:
    found = summarise([7.0])
    assert (found.mean, found.sd, found.p50, found.p99) == (7.0, 0.0, 7.0, 7.0)


def test_variance_between_and_within_clusters_by_hand() -> None:
    """Sizes 1, 2 and 3: n0 = (6 - 14/6) / 2 = 11/6; the formula of Donner (1986)."""
    values, clusters = np.array([1.0, 2.0, 4.0, 6.0, 7.0, 8.0]), [5, 2, 2, 9, 9, 9]
    # Mean 14/3; cluster means 1, 3 and 7.
    among = ((1 - 14 / 3) ** 2 + 2 * (3 - 14 / 3) ** 2 + 3 * (7 - 14 / 3) ** 2) / 2
    inside = ((2 - 3) ** 2 + (4 - 3) ** 2 + (6 - 7) ** 2 + (8 - 7) ** 2) / 3
    expected = (among - inside) / (among + (11 / 6 - 1) * inside)
    assert intraclass_correlation(values, clusters) == pytest.approx(expected)
    assert totals(values, clusters).tolist() == [6.0, 1.0, 21.0], "in the order of their numbers"
    assert effective_number(clusters, 0.5) == pytest.approx(6 / (1 + (14 / 6 - 1) * 0.5))
    assert effective_number([], None) == 0.0
