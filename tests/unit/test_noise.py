"""Noise of repeated measurements, against scipy and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from runner.evaluation.metrics.noise import (
    Comparison,
    compare,
    compare_between,
    relative_noise,
    widened,
)
from runner.evaluation.metrics.statistics import Interval
from runner.evaluation.metrics.student import student_975

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("freedom", [0.3, 1, 1.5, 2, 2.71, 7, 20, 21.4, 500, 2000.1, 1e6])
def test_the_quantile_is_students(freedom: float) -> None:
    assert student_975(freedom) == stats.t.ppf(0.975, freedom)


def test_nothing_repeated_has_no_width() -> None:
    assert student_975(0) == math.inf


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("paired", [True, False])
def test_paired_and_welch_intervals_are_scipys(seed: int, paired: bool) -> None:
    generator = np.random.default_rng(seed)
    many = int(generator.integers(2, 12))
    counts = (many, many if paired else int(generator.integers(2, 12)))
    one, other = (generator.lognormal(3.0, s, n) for s, n in zip((0.1, 0.3), counts, strict=True))
    logs = np.log(one), np.log(other)
    test = stats.ttest_rel(*logs) if paired else stats.ttest_ind(*logs, equal_var=False)
    expected = test.confidence_interval()
    found = compare(one.tolist(), other.tolist(), paired=paired)
    assert found.ratio.low == pytest.approx(math.exp(expected.low), rel=1e-9)
    assert found.ratio.high == pytest.approx(math.exp(expected.high), rel=1e-9)
    assert found.ratio.estimate == pytest.approx(math.exp(logs[0].mean() - logs[1].mean()))
    assert found.within_noise == (test.pvalue > 0.05)


def test_equal_machines_are_told_apart_as_rarely_as_promised() -> None:
    generator = np.random.default_rng(1)
    wrong = sum(
        not compare(*generator.lognormal(0.0, 0.05, (2, 5)).tolist()).within_noise
        for _ in range(2000)
    )
    assert wrong / 2000 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_taking_turns_cancels_drift() -> None:
    generator = np.random.default_rng(2)
    drift = np.linspace(1.0, 0.6, 8)
    one = 100 * drift * generator.lognormal(0, 0.005, 8)
    other = 105 * drift * generator.lognormal(0, 0.005, 8)
    assert compare(one.tolist(), other.tolist()).within_noise
    turns = compare(one.tolist(), other.tolist(), paired=True)
    assert not turns.within_noise
    assert turns.ratio.estimate == pytest.approx(100 / 105, rel=0.01)


def test_what_was_not_repeated_tells_nothing() -> None:
    found = compare([2.0], [1.0])
    assert found.ratio.estimate == 2.0
    assert found.within_noise
    assert relative_noise([2.0]) is None
    assert not compare([2.0, 2.0, 2.0], [1.0, 1.0, 1.0]).within_noise


def test_repeat_spread() -> None:
    samples = [9.0, 10.0, 11.0]
    width = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert relative_noise(samples) == pytest.approx(width / 10, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "paired"),
    [([], [1.0], False), ([0.0], [1.0], False), ([1.0], [1, 1], True)],
)
def test_nonsense_is_refused(first: list[float], second: list[float], paired: bool) -> None:
    with pytest.raises(ValueError, match=r"must be positive|cannot be paired"):
        compare(first, second, paired)


def test_a_measurement_between_two_of_the_other() -> None:
    """Ratio to their geometric mean; t of one degree of freedom x ln 1.1 / sqrt(2) x sqrt(1.5)."""
    found = compare_between([3.0], [1.0], [1.1])
    half = float(stats.t.ppf(0.975, 1)) * math.log(1.1) / math.sqrt(2) * math.sqrt(1.5)
    assert found.ratio.estimate == pytest.approx(3 / math.sqrt(1.1))
    assert found.ratio.high == math.inf, "one sample alone tells nothing of repetitions"
    many = compare_between([3.0, 3.0], [1.0, 1.0], [1.1, 1.1])
    assert many.ratio.low == pytest.approx(3 / math.sqrt(1.1) * math.exp(-half))
    assert many.ratio.high == pytest.approx(3 / math.sqrt(1.1) * math.exp(half))
    assert (many.within_noise, many.paired) == (False, False)
    assert compare_between([1.05, 1.05], [1.0, 1.0], [1.1, 1.1]).within_noise
    # Where the two are equal, the repetitions' own spread counts.
    own, other = [2.0, 2.2, 2.4], [1.0, 1.1, 1.2]
    still = compare_between(own, other, other)
    welch = compare(own, [*other, *other]).ratio
    assert still.ratio.high / still.ratio.estimate == pytest.approx(welch.high / welch.estimate)


@pytest.mark.parametrize("drift", [2.0, 0.5])
def test_drift_widens_an_interval_on_both_sides(drift: float) -> None:
    found = widened(Comparison(Interval(3.0, 1.5, 6.0), False, True), drift)
    assert (found.ratio.low, found.ratio.estimate, found.ratio.high) == pytest.approx((0.75, 3, 12))
    assert (found.within_noise, found.paired) == (True, True)
    assert not widened(Comparison(Interval(3.0, 2.5, 6.0), False, False), drift).within_noise


def test_one_is_within_the_noise_up_to_the_interval_s_ends() -> None:
    for low, high, within in ((1.0, 2.0, True), (0.5, 1.0, True), (1.001, 2.0, False),
                              (0.5, 0.999, False)):  # fmt: skip
        found = widened(Comparison(Interval(1.2, low, high), not within, False), 1.0)
        assert found.within_noise is within
