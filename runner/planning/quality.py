"""The quality cost of a format: as measured here, else as published, else unknown."""

import math
from dataclasses import dataclass

from runner.planning.formats import Format
from runner.planning.model_shape import Shape

_SIZES = (8.0e9, 70.0e9, 405.0e9)
_RECOVERY = {
    "fp8_e4m3": ((99.3, 101.2), (99.7, 100.0), (100.1, 99.9)),
    "w8a8": ((100.3, 101.5), (99.9, 97.3), (99.3, 98.3)),
    "w4a16": ((98.7, 96.1), (99.5, 97.4), (100.0, 98.9)),
}
"""Accuracy in percent of the unquantized Llama-3.1 8B, 70B and 405B on two suites of benchmarks
(arXiv 2411.02355v4); the 4-bit one is GPTQ with groups of 128."""

_DIVERGENCE = {
    "q8_0": 0.00136,
    "q6_k": 0.00545,
    "q5_k_m": 0.01076,
    "q4_k_m": 0.0313,
    "q4_0": 0.0719,
    "q3_k_m": 0.102,
    "q2_k": 0.445,
}
"""Mean KL divergence from Llama-3-8B in 16 bits, nats a token (llama.cpp's perplexity README)."""

_MOST_DIVERGENCE = 0.1
_MOST_PERPLEXITY_RATIO = 1.05


@dataclass(frozen=True)
class MeasuredQuality:
    """Perplexity of a recipe over the unquantized model's, from the store."""

    label: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """A statement, and whether it is a risk."""

    text: str
    source: str
    """``exact``, ``measured``, ``published`` or ``unknown``."""
    risk: bool


def quality_of(
    fmt: Format, shape: Shape, min_recovery_percent: float, measured: MeasuredQuality | None
) -> Quality:
    """The best that is known of a format's quality on a model."""
    if fmt.weight_bits >= 16:
        return Quality("unquantized", "exact", False)
    if measured is not None:
        return Quality(
            f"measured here: perplexity x{measured.ratio:.3f} "
            f"[{measured.low:.3f}, {measured.high:.3f}] ({measured.label})",
            "measured",
            measured.low > _MOST_PERPLEXITY_RATIO,
        )
    if (divergence := _DIVERGENCE.get(fmt.label)) is not None:
        text = f"published: mean KL divergence {divergence:g} nats (Llama-3-8B, llama.cpp)"
        return Quality(text, "published", divergence > _MOST_DIVERGENCE)
    if (rows := _RECOVERY.get(fmt.scheme or fmt.label)) is not None and _comparable(fmt):
        nearest = min(range(len(_SIZES)), key=lambda i: abs(math.log(shape.parameters / _SIZES[i])))
        first, second = rows[nearest]
        text = (
            f"published: keeps {first:g}% and {second:g}% of accuracy on two suites "
            f"(Llama-3.1-{_SIZES[nearest] / 1e9:.0f}B, arXiv 2411.02355)"
        )
        return Quality(text, "published", min(first, second) < min_recovery_percent)
    return Quality(
        "unknown: no figure in the tables; measure it (stages=[quantize,eval])", "unknown", False
    )


def _comparable(fmt: Format) -> bool:
    """Whether the published figure is of about this granularity."""
    return stem_bits(fmt) != 4 or (fmt.group is not None and fmt.group <= 128)


def stem_bits(fmt: Format) -> int:
    """Bits of a weight, scales left out."""
    return round(fmt.weight_bits)
