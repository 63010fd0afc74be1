"""Figures of one run against another's, each with a word on noise."""

import math
from collections.abc import Iterator
from typing import Any

from runner.answer.compare.drift import drift_between
from runner.answer.compare.figure import Figure
from runner.answer.compare.quality import quality
from runner.metrics.noise import compare as compare_samples
from runner.metrics.noise import widened
from runner.store.records import RunRecord

SPEEDS = {"decode_tokens_per_second": False, "time_to_first_token_seconds": True}
"""Figures of a batch, and whether less is better."""


def figures(a: RunRecord, b: RunRecord, *, mix_arithmetic: bool = False) -> Iterator[Figure]:
    """Every figure that both runs have by the same protocol."""
    for stage, name, low in (
        ("quantize", "bits_per_weight", True),
        ("bench", "checkpoint_bytes", True),
    ):
        pair = _both(a, b, stage, name)
        if pair is not None:
            yield _exact(name, *pair, low)
    yield from quality(a, b, mix_arithmetic=mix_arithmetic)
    yield from _speed(a, b)
    pair = _both(a, b, "bench", "peak_memory_bytes")
    if pair is not None:
        yield _once("peak_memory_bytes", *pair)


def own_stage(record: RunRecord, name: str) -> dict[str, Any] | None:
    """A stage's result on what the run is about: its recipe, or the unquantized model."""
    return record.stage(name) or record.stage(name, "baseline")


def _both(a: RunRecord, b: RunRecord, stage: str, name: str) -> tuple[float, float] | None:
    one, other = (own_stage(record, stage) or {} for record in (a, b))
    if one.get(name) is None or other.get(name) is None:
        return None
    return float(one[name]), float(other[name])


def _speed(a: RunRecord, b: RunRecord) -> Iterator[Figure]:
    one, other = (own_stage(record, "bench") or {} for record in (a, b))
    if any(one.get(k) != other.get(k) for k in ("prompt_tokens", "new_tokens")):
        return
    opposite = {batch["batch_size"]: batch for batch in other.get("batches", [])}
    drift = drift_between(a, b, tuple(SPEEDS))
    for batch in one.get("batches", []):
        size = batch["batch_size"]
        if size not in opposite:
            continue
        for metric, low in SPEEDS.items():
            x, y = batch[metric], opposite[size][metric]
            name = f"{metric}/batch_{size}"
            samples = (x.get("samples") or [], y.get("samples") or [])
            if all(samples) and min(*samples[0], *samples[1]) > 0:
                moved = drift.of(metric, size)
                yield _repeated(name, x["mean"], y["mean"], low, samples, paired=False, drift=moved)
            else:
                yield _once(name, x["mean"], y["mean"], low)


def _repeated(
    name: str,
    a: float,
    b: float,
    low: bool,
    samples: Any,
    *,
    paired: bool,
    drift: float | None = None,
) -> Figure:
    found = compare_samples(samples[1], samples[0], paired)
    if not math.isfinite(found.ratio.high):
        return _once(name, a, b, low)
    if drift is not None:
        found = widened(found, drift)
    if a == b:
        verdict = "equal"
    elif found.within_noise:
        verdict = "within noise"
    else:
        verdict = "better" if (found.ratio.estimate < 1) is low else "worse"
    return Figure(name, a, b, low, found.ratio, verdict, drift)


def _exact(name: str, a: float, b: float, low: bool) -> Figure:
    verdict = "equal" if a == b else "better" if (b < a) is low else "worse"
    return Figure(name, a, b, low, None, verdict)


def _once(name: str, a: float, b: float, low: bool = True) -> Figure:
    return Figure(name, a, b, low, None, "equal" if a == b else "unknown")
