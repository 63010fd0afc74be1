"""Figures of one run against another's, each with a word on noise."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.answer.compare.drift import drift_between
from runner.metrics.noise import compare as compare_samples
from runner.metrics.noise import widened
from runner.metrics.statistics import Interval
from runner.store.records import RunRecord

SPEEDS = {"decode_tokens_per_second": False, "time_to_first_token_seconds": True}
"""Figures of a batch, and whether less is better."""


@dataclass(frozen=True)
class Figure:
    """One figure on both sides. ``ratio`` is b over a."""

    name: str
    a: float
    b: float
    lower_is_better: bool
    ratio: Interval | None
    """With its 95% interval; ``None`` where nothing was repeated."""
    verdict: str
    """``equal``, ``within noise``, ``better``, ``worse``, or ``unknown``: no interval."""
    drift: float | None = None
    """Of a speed: b over a of the unquantized model's own, by which ``ratio`` is widened; ``None``
    where that is not known."""


def figures(a: RunRecord, b: RunRecord) -> Iterator[Figure]:
    """Every figure that both runs have by the same protocol."""
    for stage, name, low in (
        ("quantize", "bits_per_weight", True),
        ("bench", "checkpoint_bytes", True),
    ):
        pair = _both(a, b, stage, name)
        if pair is not None:
            yield _exact(name, *pair, low)
    yield from _quality(a, b)
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


def _quality(a: RunRecord, b: RunRecord) -> Iterator[Figure]:
    one, other = ((own_stage(record, "eval") or {}).get("perplexity") for record in (a, b))
    if not one or not other or one["protocol"] != other["protocol"]:
        return
    name = f"perplexity/{one['protocol']}"
    same_text = a.config.get("eval", {}).get("text") == b.config.get("eval", {}).get("text")
    losses = [side.get("window_losses") or [] for side in (one, other)]
    if same_text and a.model == b.model and len(losses[0]) == len(losses[1]) > 1:
        # Windows are the independent units, and both sides saw the same ones.
        yield _repeated(name, one["value"], other["value"], True, _exp(losses), paired=True)
    else:
        yield _once(name, one["value"], other["value"])


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


def _exp(losses: list[list[float]]) -> list[list[float]]:
    return [[math.exp(min(loss, 700.0)) for loss in side] for side in losses]
