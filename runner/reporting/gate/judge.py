"""What a gate says: every criterion of every candidate, then all together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.schema.gate import Gate
from runner.errors import UsageError
from runner.evaluation.metrics.noninferiority import (
    LimitTest,
    Outcome,
    against_limit,
    outcomes,
    overall,
)
from runner.reporting.gate.measures import CRITERIA, Measure
from runner.reporting.gate.pairs import Opposed

EXIT_CODES = {Outcome.passed: 0, Outcome.failed: 3, Outcome.unknown: 4}
"""1 and 2 stand for a run that failed and a wrong request."""


@dataclass(frozen=True)
class Criterion:
    """One criterion of one candidate."""

    candidate: str
    """``SWEEP/RUN``."""
    against: str
    criterion: str
    """Field of ``Gate``."""
    limit: float
    measured: float | None
    """As the limit: a share, a ratio or nats; ``None`` where nothing was."""
    bound: float | None
    """The end of the one-sided interval that the limit is held against."""
    outcome: str
    reason: str | None
    """Why nothing can be told, or what it takes to tell."""
    p_value: float | None
    """Of the test that decides it, else of non-inferiority."""
    units: int | None
    unit: str | None
    needed_units: int | None
    """In all, for a decision in four of five measurements if the estimate is right."""


@dataclass(frozen=True)
class GateVerdict:
    """What a gate says of its candidates."""

    outcome: str
    exit_code: int
    candidate: str
    against: str
    alpha: float
    criteria: list[Criterion]


def judge(asked: Gate, pairs: Sequence[Opposed], candidate: str) -> GateVerdict:
    """Test every criterion that is set.

    Args:
        asked: What the gate is told.
        pairs: The candidates with what they are held against.
        candidate: Name of the sweep or run.

    Raises:
        UsageError: No criterion is set, or none of the candidates was measured for one.
    """
    limits = {name: asked.criteria[name] for name in CRITERIA if name in asked.criteria}
    if not limits:
        raise UsageError(
            "gate has no criterion: set one or more of "
            + ", ".join(f"gate.{name}={_EXAMPLES[name]}" for name in CRITERIA)
        )
    asked_of = [(pair, name, limit) for pair in pairs for name, limit in limits.items()]
    found = [_measure(pair, name, limit) for pair, name, limit in asked_of]
    _require_measured(found, list(asked_of))
    measured = {place: one for place, one in enumerate(found) if isinstance(one, Measure)}
    tests = {
        place: against_limit(
            one.loss, one.limit, one.freedom, asked.alpha, units=one.units, tests=len(measured)
        )
        for place, one in measured.items()
    }
    said = dict(zip(tests, outcomes(list(tests.values()), asked.alpha), strict=True))
    criteria = []
    for place, (pair, name, limit) in enumerate(asked_of):
        one = found[place]
        if isinstance(one, Measure):
            criteria.append(_told(pair, name, limit, one=one, test=tests[place], said=said[place]))
        else:
            criteria.append(
                Criterion(
                    pair.name, pair.other_name, name, limit, None, None, Outcome.unknown.value,
                    one, None, None, None, None,
                )
            )  # fmt: skip
    whole = overall([Outcome(one.outcome) for one in criteria])
    against = ", ".join(dict.fromkeys(pair.other_name for pair in pairs))
    if len({pair.other_name for pair in pairs}) > 1:
        against = asked.against
    return GateVerdict(whole.value, EXIT_CODES[whole], candidate, against, asked.alpha, criteria)


def _measure(pair: Opposed, name: str, limit: float) -> Measure | str:
    if pair.candidate.row.status != "ok":
        return f"the run is {pair.candidate.row.status}: {pair.candidate.row.reason}"
    if pair.other is None:
        return pair.reason or "nothing to hold it against"
    if pair.other.row.status != "ok":
        return f"{pair.other_name} is {pair.other.row.status}: {pair.other.row.reason}"
    return CRITERIA[name](pair.candidate, pair.other, limit)


def _require_measured(
    found: Sequence[Measure | str], asked_of: Sequence[tuple[Opposed, str, float]]
) -> None:
    """See that a criterion is not one that nothing was measured for: a request to mend."""
    for name in dict.fromkeys(name for _, name, _ in asked_of):
        own = [one for one, (_, asked, _) in zip(found, asked_of, strict=True) if asked == name]
        if all(isinstance(one, str) and one.startswith("no ") for one in own):
            raise UsageError(f"gate.{name} cannot be tested: {own[0]}; {_REMEDIES[name]}")


def _told(
    pair: Opposed,
    name: str,
    limit: float,
    *,
    one: Measure,
    test: LimitTest,
    said: Outcome,
) -> Criterion:
    reason = needed = None
    outcome = said
    if said is Outcome.failed and one.loss.estimate - one.floor <= one.limit:
        outcome = Outcome.unknown
        reason = "arithmetic alone may make what is beyond the limit (eval.floor, tasks.floor)"
    elif outcome is Outcome.unknown:
        needed = test.needed if test.needed and test.needed > one.units else None
        reason = f"{one.units} {one.unit} do not tell"
        if needed is not None:
            reason = f"about {needed:,} {one.unit} would tell ({one.units} measured)"
    bound = test.lower_bound if outcome is Outcome.failed else test.bound
    return Criterion(
        candidate=pair.name,
        against=pair.other_name,
        criterion=name,
        limit=limit,
        measured=one.in_own_terms(test.loss),
        bound=one.in_own_terms(bound) if math.isfinite(bound) else None,
        outcome=outcome.value,
        reason=reason,
        p_value=test.p_within if outcome is Outcome.failed else test.p_beyond,
        units=one.units,
        unit=one.unit,
        needed_units=needed,
    )


_EXAMPLES = {
    "min_recovery": "99%", "max_perplexity_ratio": "1.05", "max_kl": "0.05", "max_slowdown": "5%",
}  # fmt: skip
_REMEDIES = {
    "min_recovery": "measure it with stage tasks: tasks=packaged",
    "max_perplexity_ratio": "measure it with stage eval",
    "max_kl": "measure it with stage eval",
    "max_slowdown": "measure it with stage bench",
}
