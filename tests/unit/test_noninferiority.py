"""Tests of a loss against its limit: formulas, error rates, several criteria."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.error_rates import gate_rates, stored
from runner.evaluation.metrics.noninferiority import (
    Outcome,
    against_limit,
    holm,
    outcomes,
    overall,
)
from runner.evaluation.metrics.statistics import Interval, mean_interval

pytestmark = pytest.mark.unit


def test_both_p_values_and_bounds_are_students() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 12)
    found = against_limit(mean_interval(values), 0.5, 11, 0.05, units=12)
    less = stats.ttest_1samp(values, 0.5, alternative="less")
    more = stats.ttest_1samp(values, 0.5, alternative="greater")
    assert found.p_beyond == pytest.approx(less.pvalue)
    assert found.p_within == pytest.approx(more.pvalue)
    assert found.bound == pytest.approx(less.confidence_interval(0.95).high)
    assert found.lower_bound == pytest.approx(more.confidence_interval(0.95).low)


def test_a_bound_below_the_limit_passes_one_above_fails_and_between_nobody_can_tell() -> None:
    for middle, outcome in ((0.0, "pass"), (0.9, "cannot tell"), (1.1, "cannot tell"), (2, "fail")):
        test = against_limit(Interval(middle, middle - 0.4, middle + 0.4), 1.0, 15, 0.05, units=16)
        assert outcomes([test], 0.05) == [outcome]
        assert (test.needed is not None and test.needed > 16) is (outcome == "cannot tell")
        assert (test.bound <= 1) is (outcome == "pass")
        assert (test.lower_bound > 1) is (outcome == "fail")


def test_without_an_interval_nobody_can_tell_and_without_spread_it_is_known() -> None:
    unknown = against_limit(Interval(0.0, -math.inf, math.inf), 1.0, 0, 0.05, units=1)
    assert outcomes([unknown], 0.05) == [Outcome.unknown] and unknown.needed is None
    exact = [against_limit(Interval(x, x, x), 1.0, 3, 0.05) for x in (0.0, 1.0, 1.01)]
    assert outcomes(exact, 0.05) == [Outcome.passed, Outcome.passed, Outcome.failed]


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_at_the_limit_itself_either_error_is_made_in_alpha_of_cases(alpha: float) -> None:
    values = np.random.default_rng(1).normal(1.0, 1, (4000, 10))
    found = [outcomes([against_limit(mean_interval(v), 1.0, 9, alpha)], alpha)[0] for v in values]
    spread = 3 * math.sqrt(alpha / 4000)
    assert found.count(Outcome.passed) / 4000 == pytest.approx(alpha, abs=spread)
    assert found.count(Outcome.failed) / 4000 == pytest.approx(alpha, abs=spread)


def test_failures_of_several_criteria_are_corrected_and_passes_need_not_be() -> None:
    """At the limit in all three: any failure in at most 5%, each pass in 5%."""
    values = np.random.default_rng(2).normal(1.0, 1, (2000, 3, 10))
    found = [
        outcomes([against_limit(mean_interval(v), 1.0, 9, 0.05) for v in three], 0.05)
        for three in values
    ]
    assert sum(Outcome.failed in one for one in found) / 2000 < 0.065
    assert sum(one[0] is Outcome.passed for one in found) / 2000 == pytest.approx(0.05, abs=0.015)


def test_holm_is_step_down() -> None:
    """The example of his method: each is held against alpha over what is left."""
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([0.02, 0.03, 0.9], 0.05) == [False, False, False]
    assert holm([], 0.05) == []


def test_one_failure_fails_all_and_one_doubt_leaves_doubt() -> None:
    assert overall([Outcome.passed, Outcome.unknown, Outcome.failed]) is Outcome.failed
    assert overall([Outcome.passed, Outcome.unknown]) is Outcome.unknown
    assert overall([Outcome.passed]) is Outcome.passed
    assert overall([]) is Outcome.unknown


def test_one_of_many_tests_needs_more_text_to_fail() -> None:
    loss = Interval(2.0, 0.5, 3.5)
    alone, one_of_six = (against_limit(loss, 1.0, 7, 0.05, units=8, tests=n) for n in (1, 6))
    assert alone.needed is not None and one_of_six.needed is not None
    assert one_of_six.needed > alone.needed
    inside = [against_limit(Interval(0.5, -1, 2), 1.0, 7, 0.05, units=8, tests=n) for n in (1, 6)]
    assert inside[0].needed == inside[1].needed


def test_a_recipe_made_again_fails_by_point_estimates_and_not_by_the_gate() -> None:
    """200 pairs of one recipe's seeds on stored losses; `python -m benchmarks.error_rates`."""
    recipes, values = stored()
    again = [place for place, name in enumerate(recipes) if "seed=" in name]
    alike = {name: several[again] for name, several in values.items()}
    for limits, least in (((1.0, 0.0), 0.5), ((1.01, 0.01), 0.25)):
        said, point = gate_rates(alike, limits, 200)
        assert said["fail"] <= 0.05
        assert point > least
    said, point = gate_rates(alike, (1.05, 0.05), 1000, at_limit=True)
    assert said["pass"] <= 0.05 and said["fail"] <= 0.065
    assert 0.1 < 1 - point < 0.5, "point estimates let through what is at both limits"
