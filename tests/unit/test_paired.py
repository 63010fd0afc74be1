"""McNemar's test, recovery and paired differences, against scipy and cases worked by hand."""

import random

import numpy as np
import pytest
from scipy import stats

from runner.evaluation.metrics.paired import (
    is_right_or_wrong,
    mcnemar,
    paired_difference,
    recovery_percent,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("lost", "gained", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (6, 1, 2 * (1 + 7) / 128),  # (C(7,0) + C(7,1)) / 2^7, twice
        (3, 3, 1.0),
    ],
)
def test_mcnemar_by_hand(lost: int, gained: int, p_value: float) -> None:
    before = [1] * lost + [0] * gained + [1, 0, 1]
    after = [0] * lost + [1] * gained + [1, 0, 1]
    found = mcnemar(before, after)
    assert (found.lost, found.gained) == (lost, gained)
    assert found.p_value == pytest.approx(p_value, rel=1e-15)


@pytest.mark.parametrize("items", [20, 200, 5000])
def test_mcnemar_is_the_binomial_test_of_scipy(items: int) -> None:
    chosen = random.Random(items)
    before = [float(chosen.random() < 0.7) for _ in range(items)]
    after = [old if chosen.random() < 0.8 else float(chosen.random() < 0.6) for old in before]
    found = mcnemar(before, after)
    expected = stats.binomtest(found.lost, found.lost + found.gained).pvalue
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_very_many_changes_is_still_a_number() -> None:
    found = mcnemar([1] * 3000 + [0] * 2000, [0] * 3000 + [1] * 2000)
    assert 0 < found.p_value < 1e-40
    assert found.p_value == pytest.approx(stats.binomtest(2000, 5000).pvalue, rel=1e-6)


def test_recovery_is_turned_round_where_less_is_better() -> None:
    assert recovery_percent(0.45, 0.50, True) == pytest.approx(90.0)
    assert recovery_percent(25.0, 20.0, False) == pytest.approx(80.0)
    assert recovery_percent(0.1, 0.0, True) is None


def test_the_difference_has_students_interval() -> None:
    before, after = [1.0, 1, 0, 1, 0, 1], [1.0, 0, 0, 1, 1, 0]
    found = paired_difference(before, after)
    differences = np.array(after) - np.array(before)
    low, high = stats.t.interval(
        0.95, len(differences) - 1, differences.mean(), stats.sem(differences)
    )
    assert found.estimate == pytest.approx(-1 / 6)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_what_counts_as_right_or_wrong() -> None:
    assert is_right_or_wrong([0, 1.0, True])
    assert not is_right_or_wrong([0.5, 1])
    assert not is_right_or_wrong([(-3.0, 7), 1])
