"""Combines runs of one recipe that differ only in their seed into one row.

What a recipe draws is the choice of its calibration windows, by ``calibration.seed``. Runs of a
sweep that are told alike but for that seed are draws of one recipe. Their row has the mean of sizes
and speeds, the perplexity of the mean loss, and intervals over the text and the draws together
(``runner.evaluation.metrics.crossed``). Without calibration every seed makes the same checkpoint:
its runs are one measurement.
"""

import json
import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from runner.config.schema.root import StageName
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.planning.hardware.detect import kind_of
from runner.reporting.flatten import flatten
from runner.reporting.quality.answered import accuracy_difference, answered, joined_answers
from runner.reporting.quality.evaluated import Evaluated, first_evaluation, joined, seed_of
from runner.reporting.quality.paired import delta, divergence, ratio, why_not
from runner.reporting.row import Row
from runner.store.records import RunRecord, Status

_SEED = "calibration.seed"
_DECIDE = "decide"
_MEANS = (
    "bits_per_weight", "bits_per_parameter", "quantized_share", "kl_divergence",
    "top_1_agreement", "task_accuracy", "task_recovery_percent", "task_answers",
    "task_answers_changed", "task_answers_lost", "task_answers_gained", "decode_tokens_per_second",
    "time_to_first_token_seconds", "memory_bandwidth_utilization",
)  # fmt: skip
_WHOLE_MEANS = ("checkpoint_bytes", "peak_memory_bytes", "held_memory_bytes")
_GEOMETRIC = ("decode_ratio", "decode_ratio_low", "decode_ratio_high")
"""An interval of a speed's mean over draws is no wider than the geometric mean of theirs."""


@dataclass(frozen=True)
class Draws:
    """Runs that make one row, in the order of the sweep."""

    records: list[RunRecord]
    same_checkpoint: bool = True
    """Whether all have one: nothing was drawn."""


def by_recipe(records: Sequence[RunRecord]) -> list[Draws]:
    """The records, those of one recipe together in the place of the first of them."""
    groups: dict[Any, list[RunRecord]] = {}
    places = {id(record): number for number, record in enumerate(records)}
    for record in records:
        groups.setdefault(_identity(record) or id(record), []).append(record)
    found = [draws for group in groups.values() for draws in _draws(group)]
    return sorted(found, key=lambda draws: places[id(draws.records[0])])


def together(rows: list[Row], draws: Draws) -> Row:
    """One row of the rows of the draws' runs."""
    row = copy(rows[0])
    # Windows of one document are as alike as they are in the draw that says so most.
    least = min(rows, key=lambda one: one.effective_windows or math.inf)
    row.icc, row.effective_windows = least.icc, least.effective_windows
    row.runs = " ".join(str(one.run) for one in rows)
    row.calibration_overlap = max(
        (one.calibration_overlap for one in rows if one.calibration_overlap is not None),
        default=None,
    )
    row.caveat = "; ".join(dict.fromkeys(one.caveat for one in rows if one.caveat)) or None
    for names, mean in ((_MEANS, _mean), (_WHOLE_MEANS, _whole_mean), (_GEOMETRIC, _geometric)):
        for name in names:
            _combine(row, rows, name, mean)
    noises = [one.decode_within_noise for one in rows]
    # Each draw's checkpoint was timed by itself: a difference must be seen in all of them.
    row.decode_within_noise = None if None in noises else any(noises)
    if draws.same_checkpoint:
        return row
    row.seeds = len(rows)
    _add_spread_of_speed(row, rows)
    _add_quality(row, rows, draws.records)
    _add_answers(row, rows, draws.records)
    return row


def _identity(record: RunRecord) -> tuple[str, ...] | None:
    """What runs of one recipe have in common; ``None`` for a run that stands for itself."""
    if record.status is not Status.ok or record.entry(StageName.quantize) is None:
        return None
    # What an answer is judged by makes no other recipe.
    told = flatten({name: part for name, part in record.config.items() if name != _DECIDE})
    if told.pop(_SEED, None) is None:
        return None
    host = kind_of(record.host)
    machine = {name: host.get(name) for name in ("cpu_name", "gpus")}
    return (
        record.sweep,
        record.model,
        record.label,
        record.engine,
        json.dumps([told, machine], sort_keys=True, default=str),
    )


def _draws(group: list[RunRecord]) -> list[Draws]:
    """The group where it is one recipe's, else each of its runs."""
    if len(group) == 1:
        return [Draws(group)]
    alone = [Draws([record]) for record in group]
    keys = {_key(record) for record in group}
    if len({seed_of(record) for record in group}) < len(group):
        return alone
    if len(keys) not in (1, len(group)):
        return alone
    found = [first_evaluation(record) for record in group]
    evaluated = [one for one in found if one is not None]
    scored = [record for record in group if record.result(EVAL) is not None]
    if len(evaluated) < len(scored) or len(scored) not in (0, len(group)):
        return alone
    if any(why_not(one, evaluated[0]) is not None for one in evaluated[1:]):
        return alone
    return [Draws(group, same_checkpoint=len(keys) == 1)]


def _key(record: RunRecord) -> str:
    return next(
        s.key for s in record.stages if (s.stage, s.subject) == (StageName.quantize, "recipe")
    )


def _add_quality(row: Row, rows: list[Row], records: list[RunRecord]) -> None:
    several = [one.evaluated for one in rows if one.evaluated is not None]
    if len(several) < len(rows):
        return
    row.evaluated = own = joined(several)
    row.perplexity = own.value
    base = first_evaluation(records[0], "baseline")
    if base is not None and row.perplexity_ratio is not None and why_not(own, base) is None:
        _add_change(row, own, base)
    row.kl_divergence_low = row.kl_divergence_high = None
    if own.divergences:
        found = divergence(own)
        row.kl_divergence = found.estimate
        if math.isfinite(found.high):
            row.kl_divergence_low, row.kl_divergence_high = found.low, found.high


def _add_change(row: Row, own: Evaluated, base: Evaluated) -> None:
    change, factor = delta(own, base), ratio(own, base)
    row.perplexity_delta = change.estimate
    row.perplexity_delta_low, row.perplexity_delta_high = change.low, change.high
    row.perplexity_ratio = factor.estimate
    row.perplexity_ratio_low, row.perplexity_ratio_high = factor.low, factor.high


def _add_answers(row: Row, rows: list[Row], records: list[RunRecord]) -> None:
    several = [one.answered for one in rows if one.answered is not None]
    row.answered = joined_answers(several) if len(several) == len(rows) else None
    base = answered(records[0], "baseline")
    row.task_accuracy_delta = row.task_accuracy_delta_low = row.task_accuracy_delta_high = None
    found = row.answered and base and accuracy_difference(row.answered, base)
    if found:
        row.task_accuracy_delta = found.interval.estimate
        row.task_accuracy_delta_low = found.interval.low
        row.task_accuracy_delta_high = found.interval.high


def _add_spread_of_speed(row: Row, rows: list[Row]) -> None:
    """Of all repetitions of all draws: within each, and from one to the next."""
    means = [one.decode_tokens_per_second for one in rows]
    spreads = [one.decode_tokens_per_second_sd for one in rows]
    known = [mean for mean in means if mean is not None]
    within = [sd for sd in spreads if sd is not None]
    if len(known) == len(within) == len(rows):
        middle = _mean(known)
        between = sum((mean - middle) ** 2 for mean in known) / len(known)
        row.decode_tokens_per_second_sd = math.sqrt(_mean([sd**2 for sd in within]) + between)


def _combine(row: Row, rows: list[Row], name: str, mean: Callable[[list[float]], float]) -> None:
    values = [getattr(one, name, None) for one in rows]
    known = [value for value in values if value is not None]
    if hasattr(row, name):
        setattr(row, name, mean(known) if len(known) == len(rows) else None)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _whole_mean(values: list[float]) -> float:
    return round(sum(values) / len(values))


def _geometric(values: list[float]) -> float:
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, values)) / len(values))
