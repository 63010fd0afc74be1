"""Figures of one run against another's, each with its noise verdict."""

from collections.abc import Iterator

from runner.pipeline.stages.audit import STAGE as AUDIT
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.reporting.compare.figure import Figure, once, own_result
from runner.reporting.compare.quality import answers, quality
from runner.reporting.compare.speed import speeds
from runner.reporting.further import further_metrics
from runner.store.records import BASELINE, RECIPE, RunRecord


def figures(
    a: RunRecord, b: RunRecord, *, allow_different_dtypes: bool = False
) -> Iterator[Figure]:
    """Every figure that both runs have by the same protocol."""
    one, other = (own_result(record, QUANTIZE) or record.result(AUDIT) for record in (a, b))
    if one is not None and other is not None:
        yield _exact("bits_per_weight", one.bits_per_weight, other.bits_per_weight)
    mine, its = (own_result(record, BENCH) for record in (a, b))
    if mine is not None and its is not None:
        yield _exact("checkpoint_bytes", mine.checkpoint_bytes, its.checkpoint_bytes)
    yield from quality(a, b, allow_different_dtypes=allow_different_dtypes)
    yield from answers(a, b, allow_different_dtypes=allow_different_dtypes)
    yield from speeds(a, b)
    if mine is not None and its is not None and mine.device == its.device:
        taken, its_own = mine.memory_bytes, its.memory_bytes
        if taken is not None and its_own is not None:
            yield once("peak_memory_bytes", taken, its_own)
    yield from _further(a, b)


def _further(a: RunRecord, b: RunRecord) -> Iterator[Figure]:
    """Headline figures of plug-ins' stages, whose noise is not known."""
    one, other = (further_metrics(r, RECIPE) or further_metrics(r, BASELINE) for r in (a, b))
    for name in sorted(one.keys() & other.keys()):
        yield once(name, one[name], other[name])


def _exact(name: str, a: float, b: float) -> Figure:
    verdict = "equal" if a == b else "better" if b < a else "worse"
    return Figure(name, a, b, True, None, verdict)
