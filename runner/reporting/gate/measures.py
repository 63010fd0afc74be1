"""What each criterion of a gate measures: a candidate's loss against what it is held against."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from runner.evaluation.metrics.statistics import Interval
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.reporting.compare.drift import alike
from runner.reporting.quality.answered import accuracy_shortfall
from runner.reporting.quality.evaluated import exponential
from runner.reporting.quality.paired import (
    divergence,
    divergence_difference,
    log_ratio,
    same_reference,
    why_not,
)
from runner.reporting.row import Row
from runner.reporting.speed import log_ratio as speed_ratio
from runner.reporting.timing import Protocol
from runner.store.records import RunRecord


@dataclass(frozen=True)
class Sided:
    """A row with the records that it was read from."""

    row: Row
    records: tuple[RunRecord, ...]


@dataclass(frozen=True)
class Measure:
    """A loss on the scale that it is tested on, and how to say it."""

    loss: Interval
    """Symmetric; more is worse."""
    limit: float
    freedom: float
    units: int
    unit: str
    """What there would have to be more of."""
    in_own_terms: Callable[[float], float]
    """Of a value on that scale: the criterion's."""
    floor: float = 0.0
    """Loss, on that scale, that arithmetic alone may make; 0 where it was not measured."""


Found = Measure | str
"""Or why nothing can be told."""


def recovery(candidate: Sided, other: Sided, least: float) -> Found:
    """Accuracy as a share of the other's, item by item: ``least`` x other - own is the loss."""
    own, opposite = candidate.row.answered, other.row.answered
    if own is None or opposite is None:
        return _lacks("accuracy on tasks (stage tasks)", (own, candidate), (opposite, other))
    loss = accuracy_shortfall(own, opposite, least)
    if loss is None:
        return "the items, the unquantized models or the arithmetic differ"
    base = opposite.value
    items = sum(len(task.outcomes[0]) for task in own.tasks.values() if task.outcomes)
    return Measure(
        loss,
        0.0,
        max(1, items - len(own.tasks)),
        items,
        "items",
        lambda loss: least - loss / base if base else math.nan,
        _floor(candidate, other, "floor_task_accuracy"),
    )


def perplexity_ratio(candidate: Sided, other: Sided, most: float) -> Found:
    """Logarithm of the perplexity's ratio to the other's."""
    own, opposite = candidate.row.evaluated, other.row.evaluated
    if own is None or opposite is None:
        return _lacks("perplexity (stage eval)", (own, candidate), (opposite, other))
    if reason := why_not(own, opposite):
        return reason
    windows, clusters = len(own.losses[0]), len(set(own.clusters))
    return Measure(
        log_ratio(own, opposite),
        math.log(most),
        clusters - 1,
        clusters,
        _unit(windows, clusters),
        exponential,
        _floor(candidate, other, "floor_log_ratio"),
    )


def kl(candidate: Sided, other: Sided, most: float) -> Found:
    """KL divergence from the unquantized model, or what it is above the other's."""
    own, opposite = candidate.row.evaluated, other.row.evaluated
    if own is None or not own.divergences:
        return _lacks("KL divergence (stage eval)", (None, candidate))
    if other.row.is_baseline:
        loss = divergence(own)
    elif opposite is None or not opposite.divergences:
        return _lacks("KL divergence (stage eval)", (None, other))
    elif not same_reference(own, opposite):
        return why_not(own, opposite) or "the unquantized models' own distributions differ"
    else:
        loss = divergence_difference(own, opposite)
    windows = len(own.divergences[0])
    clusters = len(set(own.clusters[:windows]))
    return Measure(
        loss,
        most,
        clusters - 1,
        clusters,
        _unit(windows, clusters),
        lambda same: same,
        _floor(candidate, other, "floor_kl_divergence"),
    )


def slowdown(candidate: Sided, other: Sided, most: float) -> Found:
    """Logarithm of the other's decode speed over the candidate's.

    Both are known by their ratios to the unquantized model beside them, so that drift of the
    machine cancels out.
    """
    found = _ratio(candidate)
    if isinstance(found, str):
        return found
    log, half, repetitions = found
    if not other.row.is_baseline:
        opposite = _ratio(other)
        if isinstance(opposite, str):
            return opposite
        if not _timed_alike(candidate, other):
            return "speeds are of another machine, engine, version or length"
        log, half = log - opposite[0], math.hypot(half, opposite[1])
        repetitions = min(repetitions, opposite[2])
    return Measure(
        Interval(-log, -log - half, -log + half),
        -math.log(1 - most),
        repetitions - 1,
        repetitions,
        "repetitions",
        lambda loss: 1 - exponential(-loss),
    )


def _floor(candidate: Sided, other: Sided, name: str) -> float:
    """The larger one of both sides' noise floors, by its field of ``Row``."""
    return max(getattr(side.row, name) or 0.0 for side in (candidate, other))


def _ratio(side: Sided) -> tuple[float, float, int] | str:
    """Log of a row's ratio to the unquantized model's speed, half its interval, repetitions."""
    if side.row.is_baseline:
        return 0.0, 0.0, 10**6
    if side.row.decode_tokens_per_second is None:
        return _lacks("decode speed (stage bench)", (None, side))
    found = speed_ratio(side.row)
    if found is None:
        return f"{side.row.recipe} was not measured in turns with the unquantized model"
    return *found, _repetitions(side)


def _repetitions(side: Sided) -> int:
    """Measured in turns; two where the unquantized model was measured before and after."""
    if side.row.decode_compared != Protocol.in_turns.value:
        return 2
    counts = []
    for record in side.records:
        if (bench := record.result(BENCH)) is not None:
            counts += [
                len(turns.decode_tokens_per_second.samples)
                for turns in bench.in_turns
                if turns.batch_size == side.row.batch_size
            ]
    return min(counts, default=2)


def _timed_alike(one: Sided, other: Sided) -> bool:
    a, b = one.records[0], other.records[0]
    own, opposite = a.entry(BENCH.name), b.entry(BENCH.name)
    return own is not None and opposite is not None and alike(a, b, own, opposite)


def _lacks(what: str, *sides: tuple[object, Sided]) -> str:
    names = [side.row.recipe for found, side in sides if found is None]
    return f"no {what} of {' and of '.join(names)}"


def _unit(windows: int, clusters: int) -> str:
    return "windows" if windows == clusters else "documents"


CRITERIA: dict[str, Callable[[Sided, Sided, float], Found]] = {
    "min_recovery": recovery,
    "max_perplexity_ratio": perplexity_ratio,
    "max_kl": kl,
    "max_slowdown": slowdown,
}
"""By field of ``Gate``, in the order in which they are told."""
