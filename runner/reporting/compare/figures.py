"""Figures of one run against another's, each with a word on noise."""

from collections.abc import Iterator

from runner.reporting.compare.figure import Figure, once, own_stage
from runner.reporting.compare.quality import answers, quality
from runner.reporting.compare.speed import speeds
from runner.store.records import RunRecord


def figures(
    a: RunRecord, b: RunRecord, *, allow_different_dtypes: bool = False
) -> Iterator[Figure]:
    """Every figure that both runs have by the same protocol."""
    for stage, name, low in (
        ("quantize", "bits_per_weight", True),
        ("bench", "checkpoint_bytes", True),
    ):
        pair = _both(a, b, stage, name)
        if pair is not None:
            yield _exact(name, *pair, low)
    yield from quality(a, b, allow_different_dtypes=allow_different_dtypes)
    yield from answers(a, b, allow_different_dtypes=allow_different_dtypes)
    yield from speeds(a, b)
    pair = _both(a, b, "bench", "peak_memory_bytes")
    if pair is not None:
        yield once("peak_memory_bytes", *pair)


def _both(a: RunRecord, b: RunRecord, stage: str, name: str) -> tuple[float, float] | None:
    one, other = (own_stage(record, stage) or {} for record in (a, b))
    if one.get(name) is None or other.get(name) is None:
        return None
    return float(one[name]), float(other[name])


def _exact(name: str, a: float, b: float, low: bool) -> Figure:
    verdict = "equal" if a == b else "better" if (b < a) is low else "worse"
    return Figure(name, a, b, low, None, verdict)
