"""Speeds of one run against another's.

Two runs lie minutes or days apart, so their repetitions alone tell nothing of the recipes: see
``runner.reporting.timing``. Both have the unquantized model beside them. Where each took turns
with it (or measured it again) under the same circumstances, the two ratios to it are compared.
Records of older versions have it measured once a sweep: what it changed by is taken for drift, and
intervals grow by that much. Where neither is there, the verdict is ``unknown``.
"""

import math
from collections.abc import Iterator

from runner.evaluation.metrics.noise import compare, widened
from runner.evaluation.metrics.statistics import Interval
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.bench import BenchResult
from runner.reporting.compare.drift import Drift, alike, drift_between
from runner.reporting.compare.figure import Figure, once, own_result
from runner.reporting.timing import (
    DECODE,
    FIRST_TOKEN,
    Protocol,
    against_unquantized,
    samples,
    summary_of,
)
from runner.store.records import BASELINE, BASELINE_AGAIN, RECIPE, RunRecord

SPEEDS = {DECODE: False, FIRST_TOKEN: True}
"""Figures of a batch, and whether less is better."""


def speeds(a: RunRecord, b: RunRecord) -> Iterator[Figure]:
    """Each batch size that both runs measured with the same lengths."""
    one, other = (own_result(record, BENCH) for record in (a, b))
    if one is None or other is None:
        return
    if (one.prompt_tokens, one.new_tokens) != (other.prompt_tokens, other.new_tokens):
        return
    opposite = {batch.batch_size: batch for batch in other.batches}
    drift = drift_between(a, b, tuple(SPEEDS))
    for batch in one.batches:
        size = batch.batch_size
        if size not in opposite:
            continue
        for metric in SPEEDS:
            means = (summary_of(batch, metric).mean, summary_of(opposite[size], metric).mean)
            ratios = _by_ratios(a, b, size, metric, means)
            yield ratios or _by_drift((one, other), drift, size, metric, means)


def _by_ratios(
    a: RunRecord, b: RunRecord, size: int, metric: str, means: tuple[float, float]
) -> Figure | None:
    """By the ratios to the unquantized model.

    ``None`` where one of them is not told, or the runs differ in more than the recipe.
    """
    entries = [record.entry(BENCH.name) for record in (a, b)]
    if entries[0] is None or entries[1] is None or not alike(a, b, entries[0], entries[1]):
        return None
    logs = [_log_ratio(record, size, metric) for record in (a, b)]
    if logs[0] is None or logs[1] is None:
        return None
    half = math.hypot(logs[0][1], logs[1][1])
    ratio = _interval(logs[1][0] - logs[0][0], half)
    return _judged(metric, size, means, ratio, None, relative=True)


def _log_ratio(record: RunRecord, size: int, metric: str) -> tuple[float, float] | None:
    """Logarithm of a recipe's ratio to the unquantized model, and half of its interval."""
    bench, baseline, again = (
        record.result(BENCH, subject) for subject in (RECIPE, BASELINE, BASELINE_AGAIN)
    )
    measured = against_unquantized(bench, baseline, again, size, metric) if bench else None
    if (
        measured is None
        or measured.how is Protocol.apart
        or not math.isfinite(measured.comparison.ratio.high)
    ):
        return None
    ratio = measured.comparison.ratio
    return math.log(ratio.estimate), math.log(ratio.high / ratio.low) / 2


def _by_drift(
    benches: tuple[BenchResult, BenchResult],
    drift: Drift,
    size: int,
    metric: str,
    means: tuple[float, float],
) -> Figure:
    moved = drift.of(metric, size)
    series = [samples(bench, size, metric) for bench in benches]
    if moved is None or not all(series):
        return once(_name(metric, size), *means, SPEEDS[metric])
    drifted = widened(compare(series[1], series[0]), moved)
    if not math.isfinite(drifted.ratio.high):
        return once(_name(metric, size), *means, SPEEDS[metric])
    return _judged(metric, size, means, drifted.ratio, moved)


def _judged(
    metric: str,
    size: int,
    means: tuple[float, float],
    ratio: Interval,
    drift: float | None,
    *,
    relative: bool = False,
) -> Figure:
    low = SPEEDS[metric]
    if means[0] == means[1]:
        verdict = "equal"
    elif ratio.low <= 1 <= ratio.high:
        verdict = "within noise"
    else:
        verdict = "better" if (ratio.estimate < 1) is low else "worse"
    name = _name(metric, size)
    return Figure(name, *means, low, ratio, verdict, drift, relative=relative)


def _name(metric: str, size: int) -> str:
    return f"{metric}/batch_{size}"


def _interval(log: float, half: float) -> Interval:
    return Interval(math.exp(log), math.exp(log - half), math.exp(log + half))
