"""Whether a loss is shown to stay within a limit, or to be beyond it, or neither.

Two one-sided tests on the same difference: the hypothesis that the loss is at the limit or beyond
is rejected (it passes), the hypothesis that it is at the limit or below is (it fails), or neither
(nobody can tell). A point estimate decides in one of two ways by chance where the truth is at the
limit; this rule errs in ``alpha`` of cases there, and less anywhere else.

Of several criteria that all must pass, each is tested at ``alpha``: that all pass by chance though
one is beyond its limit is no likelier than ``alpha`` (intersection-union test; Berger,
Technometrics 24, 1982). That any fails by chance would be, so failures are corrected by Holm's
step-down method (Scandinavian Journal of Statistics 6, 1979).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.evaluation.metrics.simultaneous import clusters_needed
from runner.evaluation.metrics.statistics import Interval
from runner.evaluation.metrics.student import student_975, student_below, student_quantile


class Outcome(StrEnum):
    """What a test says."""

    passed = "pass"
    failed = "fail"
    unknown = "cannot tell"


@dataclass(frozen=True)
class LimitTest:
    """A loss against its limit, on a scale where more is worse."""

    loss: float
    limit: float
    bound: float
    """Upper end of the one-sided interval: the loss is less with a confidence of 1 - alpha."""
    lower_bound: float
    """The lower end of the other one-sided interval."""
    p_beyond: float
    """Of a loss at least this small if it were at the limit: small where the criterion passes."""
    p_within: float
    """Of a loss at least this large if it were at the limit: small where the criterion fails."""
    needed: int | None
    """Independent units, in all, for a decision in four of five measurements if the loss is what it
    is estimated to be; ``None`` where no number would do."""


def against_limit(
    loss: Interval,
    limit: float,
    freedom: float,
    alpha: float,
    *,
    units: int | None = None,
    tests: int = 1,
) -> LimitTest:
    """Test a loss by its 95% interval.

    Args:
        loss: With the interval, symmetric on this scale; infinite where nothing is known.
        limit: Largest loss that is tolerated.
        freedom: Degrees of freedom of the Student's t that the interval is made with.
        alpha: Probability of error of each one-sided test.
        units: Independent units that the interval is of, to tell how many would do.
        tests: Of how many this is one: a failure is to be surer.
    """
    half = loss.high - loss.estimate
    distance = loss.estimate - limit
    if not math.isfinite(half):
        return LimitTest(loss.estimate, limit, math.inf, -math.inf, 1.0, 1.0, None)
    if half == 0:
        within, beyond = float(distance <= 0), float(distance > 0)
        return LimitTest(
            loss.estimate, limit, loss.estimate, loss.estimate, 1 - within, 1 - beyond, None
        )
    error = half / student_975(freedom)
    reach = error * student_quantile(freedom, 1 - alpha)
    p_beyond = student_below(freedom, distance / error)
    needed = None
    if units is not None:
        tail = alpha if distance < 0 else alpha / tests
        needed = clusters_needed(loss, units, limit, tail=tail)
    return LimitTest(
        loss.estimate,
        limit,
        loss.estimate + reach,
        loss.estimate - reach,
        p_beyond,
        1 - p_beyond,
        needed,
    )


def outcomes(tests: Sequence[LimitTest], alpha: float) -> list[Outcome]:
    """What each says, as one of several that all must pass."""
    fails = holm([test.p_within for test in tests], alpha)
    return [
        Outcome.failed if fail else Outcome.passed if test.p_beyond <= alpha else Outcome.unknown
        for test, fail in zip(tests, fails, strict=True)
    ]


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses are rejected: any true one among them in at most ``alpha`` of cases."""
    rejected = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(order):
        if p_values[place] > alpha / (len(p_values) - rank):
            break
        rejected[place] = True
    return rejected


def overall(several: Sequence[Outcome]) -> Outcome:
    """Of criteria that all must pass: one that fails fails all, one in doubt leaves it in doubt."""
    for outcome in (Outcome.failed, Outcome.unknown):
        if outcome in several:
            return outcome
    return Outcome.passed if several else Outcome.unknown
