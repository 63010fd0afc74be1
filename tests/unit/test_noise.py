"""Noise of repeated measurements, against scipy and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from runner.metrics.noise import compare, relative_noise, student_975

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("freedom", [1, 2, 7, 20, 21, 40, 500])
def test_the_quantile_is_students(freedom: int) -> None:
    assert student_975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.001)


def test_paired_and_welch_intervals_are_scipys() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.lognormal(3.0, 0.1, 6), generator.lognormal(3.1, 0.2, 6)
    logs = np.log(one), np.log(other)
    paired = compare(one.tolist(), other.tolist(), paired=True)
    found = stats.ttest_rel(*logs).confidence_interval()
    assert (paired.ratio.low, paired.ratio.high) == pytest.approx(
        (math.exp(found.low), math.exp(found.high)), rel=1e-3
    )
    welch = compare(one.tolist(), other.tolist())
    found = stats.ttest_ind(*logs, equal_var=False).confidence_interval()
    # Its degrees of freedom are rounded down: a little wider, never narrower.
    assert math.exp(found.low) * 0.97 < welch.ratio.low <= math.exp(found.low) * 1.001
    assert welch.ratio.estimate == pytest.approx(math.exp(logs[0].mean() - logs[1].mean()))


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
    assert relative_noise(samples) == pytest.approx(4.303 * 1 / math.sqrt(3) / 10)


@pytest.mark.parametrize(
    ("first", "second", "paired"),
    [([], [1.0], False), ([0.0], [1.0], False), ([1.0], [1, 1], True)],
)
def test_nonsense_is_refused(first: list[float], second: list[float], paired: bool) -> None:
    with pytest.raises(ValueError, match=r"must be positive|cannot be paired"):
        compare(first, second, paired)
