"""Whether a claim holds for a sweep's runs."""

import math
from dataclasses import dataclass, replace
from typing import Any

from runner.config.schema.claims import Claim, Effect, Metric
from runner.evaluation.metrics.statistics import Interval
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.reporting.claims.select import UNQUANTIZED, pairs
from runner.reporting.further import further_metrics
from runner.reporting.quality.answered import Answered, accuracy_shortfall, answered
from runner.reporting.quality.evaluated import Evaluated, first_evaluation
from runner.reporting.quality.floors import floor_of
from runner.reporting.quality.paired import delta, ratio, why_not
from runner.store.records import RunRecord
from runner.util.serialise import from_json

HOLDS = "holds here"
DOES_NOT_HOLD = "does not hold here"
CANNOT_TELL = "cannot tell"
_TIMING_FACTOR = 1.5
"""How far a single timing of minutes is taken to be off on a machine that others use: assumed, as
nothing was repeated."""


@dataclass
class Evidence:
    """One pair of runs and what it says of the claim."""

    left: str
    right: str
    where: str
    """What both were told, besides what the claim names."""
    left_value: float | None
    right_value: float | None
    effect: Interval | None
    """``None`` where the two cannot be compared; ``verdict`` says why."""
    verdict: str


@dataclass
class Decision:
    """A claim, and what the sweep says of it."""

    claim: Claim
    verdict: str
    comparisons: list[Evidence]


def decide_claims(records: list[RunRecord]) -> list[Decision]:
    """Decide what each sweep claims of its own runs; nothing where it claims nothing."""
    sweeps: dict[str, list[RunRecord]] = {}
    for record in records:
        sweeps.setdefault(record.sweep, []).append(record)
    decisions = []
    for own in sweeps.values():
        stated: list[Any] = next(filter(None, (r.config.get("claims") for r in reversed(own))), [])
        decisions += [decide(from_json(Claim, claim), own) for claim in stated]
    return decisions


def decide(claim: Claim, records: list[RunRecord]) -> Decision:
    """One claim: it holds if it does for every pair of runs, and not if it fails for one."""
    try:
        found = [
            _compare(claim, one, other, where)
            for one, other, where in pairs(records, claim.left, claim.right)
        ]
    except ValueError as error:
        return Decision(claim, f"{CANNOT_TELL}: {error}", [])
    if not found:
        return Decision(claim, f"{CANNOT_TELL}: no two finished runs to compare", [])
    verdicts = [comparison.verdict for comparison in found]
    if DOES_NOT_HOLD in verdicts:
        verdict = DOES_NOT_HOLD
    elif all(verdict == HOLDS for verdict in verdicts):
        verdict = HOLDS
    else:
        verdict = CANNOT_TELL
    if len(found) > 1 and verdict != HOLDS:
        verdict += f" (holds in {verdicts.count(HOLDS)} of {len(found)})"
    elif len(found) > 1:
        verdict += f" (in all {len(found)})"
    return Decision(claim, verdict, found)


def _compare(claim: Claim, one: RunRecord, other: RunRecord, where: str) -> Evidence:
    baseline = claim.right == UNQUANTIZED
    right = UNQUANTIZED if baseline else other.label
    subject = "baseline" if baseline else "recipe"
    try:
        if claim.task is not None and claim.metric != Metric.accuracy:
            raise LookupError(f"metric={claim.metric} is of no task; use metric=accuracy")
        if claim.metric == Metric.perplexity:
            values, effect = _perplexities(claim, one, other, subject)
        elif claim.metric == Metric.accuracy:
            values, effect = _accuracies(claim, one, other, subject)
        else:
            values = (_value(claim.metric, one, "recipe"), _value(claim.metric, other, subject))
            effect = _exact(claim, *values)
    except LookupError as error:
        return Evidence(
            one.label, right, where, None, None, None, f"{CANNOT_TELL}: {error.args[0]}"
        )
    verdict = _judge(claim, effect)
    reach = _with_arithmetic(claim, effect, _floor(claim, one, other), values[1])
    if _judge(claim, reach) != verdict:
        verdict = f"{CANNOT_TELL}: arithmetic alone may make the difference"
    return Evidence(one.label, right, where, *values, effect, verdict)


def _floor(claim: Claim, *records: RunRecord) -> float:
    """What arithmetic alone was seen to do: to ``ln`` of perplexity, or to a share of answers."""
    largest = 0.0
    for record in records:
        if claim.metric == Metric.perplexity:
            largest = max(largest, floor_of(record).log_ratio or 0.0)
        elif claim.metric == Metric.accuracy:
            asked = _answers(record, "recipe", claim.task).tasks
            largest = max(largest, floor_of(record, tasks=asked).task_accuracy or 0.0)
    return largest


def _with_arithmetic(claim: Claim, effect: Interval, floor: float, right: float) -> Interval:
    """The effect with all that arithmetic alone may have added to or taken from it.

    Args:
        claim: Whose effect it is.
        effect: As it was measured.
        floor: Of ``_floor``.
        right: The right side's value.
    """
    middle = effect.estimate
    if claim.metric == Metric.accuracy:
        ends = middle - floor, middle + floor
    elif claim.effect is Effect.difference:
        ends = middle - right * math.expm1(floor), middle + right * math.expm1(floor)
    else:
        ends = middle * math.exp(-floor), middle * math.exp(floor)
    return Interval(middle, min(effect.low, ends[0]), max(effect.high, ends[1]))


def _judge(claim: Claim, effect: Interval) -> str:
    """Inside the range asserted, outside, or across one of its ends."""
    least = -math.inf if claim.at_least is None else claim.at_least
    most = math.inf if claim.at_most is None else claim.at_most
    if least <= effect.low and effect.high <= most:
        return HOLDS
    if effect.high < least or effect.low > most:
        return DOES_NOT_HOLD
    return CANNOT_TELL


def _perplexities(
    claim: Claim, one: RunRecord, other: RunRecord, subject: str
) -> tuple[tuple[float, float], Interval]:
    """Paired on the losses of the same tokens, documents or windows as independent clusters.

    The difference of two recipes is not the difference of their intervals against the
    unquantized model: both share the text's luck, which cancels here.
    """
    left, right = _evaluation(one, "recipe"), _evaluation(other, subject)
    if reason := why_not(left, right):
        raise LookupError(reason)
    effect = delta(left, right) if claim.effect is Effect.difference else ratio(left, right)
    return (left.value, right.value), effect


def _accuracies(
    claim: Claim, one: RunRecord, other: RunRecord, subject: str
) -> tuple[tuple[float, float], Interval]:
    """Shares of right answers to the same items, of one task or as the mean over all."""
    if claim.effect is not Effect.difference:
        raise LookupError("shares of right answers are compared by difference")
    left = _answers(one, "recipe", claim.task)
    right = _answers(other, subject, claim.task)
    short = accuracy_shortfall(left, right, 1.0)
    if short is None:
        raise LookupError("they were not asked the same items of the same model")
    return (left.value, right.value), Interval(-short.estimate, -short.high, -short.low)


def _answers(record: RunRecord, subject: str, task: str | None) -> Answered:
    found = answered(record, subject)
    if found is None:
        raise LookupError(f"{record.run} was asked no tasks with right answers")
    if task is None:
        return found
    own = {name: one for name, one in found.tasks.items() if name.partition("/")[2] == task}
    if not own:
        raise LookupError(f"{record.run} was not asked {task}")
    return replace(found, tasks=own)


def _evaluation(record: RunRecord, subject: str) -> Evaluated:
    if record.result(EVAL, subject) is None:
        raise LookupError(f"{record.run} has no eval result of the {subject}")
    found = first_evaluation(record, subject)
    if found is None:
        raise LookupError(f"{record.run} lacks the lengths of its windows; use force=[eval]")
    return found


def _exact(claim: Claim, left: float, right: float) -> Interval:
    timed = claim.metric == Metric.quantize_seconds
    if claim.effect is Effect.difference:
        if timed:
            raise LookupError("timings are compared by ratio")
        return Interval(left - right, left - right, left - right)
    if right == 0:
        raise LookupError(f"there is no ratio of {left:g} to 0")
    ratio, factor = left / right, _TIMING_FACTOR if timed else 1.0
    return Interval(ratio, ratio / factor, ratio * factor)


def _value(metric: str, record: RunRecord, subject: str) -> float:
    if metric == Metric.bits_per_weight and subject == "baseline":
        if record.unquantized_bits is None:
            raise LookupError("the unquantized model's bits are not known")
        return record.unquantized_bits
    if metric not in {*Metric}:
        further = further_metrics(record, subject)
        if metric not in further:
            raise LookupError(f"{record.run} has no {metric} of the {subject}")
        return further[metric]
    entry, result = record.entry(QUANTIZE.name, subject), record.result(QUANTIZE, subject)
    if entry is None or result is None:
        raise LookupError(f"{record.run} has no quantize result of the {subject}")
    if metric == Metric.quantize_seconds:
        if entry.resources.seconds is None:
            raise LookupError(f"it is not known how long {record.run} quantized")
        return entry.resources.seconds
    return float(getattr(result, metric))
