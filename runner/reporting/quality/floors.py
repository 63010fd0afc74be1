"""The noise floor of a run: what varying the unquantized model's arithmetic does to its quality."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields

from runner.config.schema.floor import Variation
from runner.pipeline.stages.eval import EvalResult
from runner.pipeline.stages.jobs.floor import STAGE as FLOOR
from runner.pipeline.stages.jobs.floor import variation_of
from runner.pipeline.stages.jobs.tasks_floor import STAGE as TASKS_FLOOR
from runner.pipeline.stages.tasks import TasksResult
from runner.reporting.quality.answered import accuracy_difference, answered, answered_in, only
from runner.store.records import BASELINE, RunRecord

STAGES = (FLOOR.name, TASKS_FLOOR.name)
"""Stages whose results are of the unquantized model, whatever their subject."""


@dataclass(frozen=True)
class Floor:
    """The largest differences that arithmetic was seen to make; ``None`` where none was measured.

    What may have either sign counts with the far end of its 95% interval, since the mean of many
    small errors may be next to nothing.
    """

    kl_divergence: float | None = None
    """Mean, in nats."""
    log_ratio: float | None = None
    """``|ln|`` of the perplexity's ratio."""
    flips: float | None = None
    """Share of tokens with another most likely one."""
    task_accuracy: float | None = None
    """Change of the mean share of right answers."""

    def or_more(self, other: "Floor") -> "Floor":
        """The larger of each."""
        largest = {}
        for one in fields(self):
            known = [x for side in (self, other) if (x := getattr(side, one.name)) is not None]
            largest[one.name] = max(known, default=None)
        return Floor(**largest)


def evaluated_floors(record: RunRecord) -> dict[Variation, EvalResult]:
    """What each variation did to perplexity and distributions."""
    return {v: r for v, s in _variations(record) if (r := record.result(FLOOR, s)) is not None}


def answered_floors(record: RunRecord) -> dict[Variation, TasksResult]:
    """What each variation did to answers."""
    return {
        v: r for v, s in _variations(record) if (r := record.result(TASKS_FLOOR, s)) is not None
    }


def floor_of(
    record: RunRecord, arithmetic: str | None = None, tasks: Collection[str] | None = None
) -> Floor:
    """The largest effect of all variations of a run.

    Args:
        record: The run's.
        arithmetic: Of the results that it is for: what another type's rounding does is none of
            theirs. ``None``: whatever.
        tasks: Of which the accuracy is, by metric and name; all by default.
    """
    found = Floor()
    for variation, result in evaluated_floors(record).items():
        other_type = variation is Variation.float32 and arithmetic is not None
        if not (other_type and result.arithmetic != arithmetic):
            found = found.or_more(floor_of_evaluation(result))
    for asked in answered_floors(record).values():
        found = found.or_more(Floor(task_accuracy=_accuracy(record, asked, tasks)))
    return found


def floor_of_evaluation(result: EvalResult) -> Floor:
    """What one variation did to perplexity and distributions."""
    log_ratio = kl = flips = None
    if (change := result.change) is not None:
        log_ratio = max(abs(math.log(end)) for end in (change.ratio.low, change.ratio.high))
    if (divergence := result.divergence) is not None:
        # That of equal distributions which were stored in 16 bits may come out below zero.
        kl = max(0.0, divergence.kl_divergence.mean.estimate)
        flips = 1 - divergence.top_1_agreement.mean.estimate
    return Floor(kl, log_ratio, flips)


def _variations(record: RunRecord) -> Iterator[tuple[Variation, str]]:
    subjects = dict.fromkeys(one.subject for one in record.stages if one.stage in STAGES)
    for subject in subjects:
        if (variation := variation_of(subject)) is not None:
            yield variation, subject


def _accuracy(record: RunRecord, asked: TasksResult, names: Collection[str] | None) -> float | None:
    base, other = answered(record, BASELINE), answered_in(asked, record)
    if base is None or other is None:
        return None
    base, other = (one if names is None else only(one, names) for one in (base, other))
    found = accuracy_difference(other, base, allow_different_dtypes=True) if base.tasks else None
    if found is None:
        return None
    return max(abs(end) for end in (found.interval.low, found.interval.high))
