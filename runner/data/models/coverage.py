"""Share of a model's matrices that a checkpoint stores quantized, from file headers.

Everything is told from what was written: transformers renames, fuses and splits tensors when it
loads and saves, so names of the model's own files say little about a checkpoint's.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from runner.data.models.layers import GGUF, StoredLayer, stored_layers

_PROMISED = ("attention", "mlp", "experts", "other")
"""Parts whose matrices a recipe quantizes. Routers, embeddings, convolutions and heads are left
dense by most methods, each by its own rule; what they are is told all the same."""
_MOST_NAMES = 50


@dataclass
class PartCoverage:
    """Matrices of one part of a model."""

    parameters: int
    quantized_share: float
    """Fraction of the parameters that are stored in fewer bits than a 16-bit float."""
    bits_per_parameter: float
    """Stored bits, scales and zero points included, over all the part's matrices."""


@dataclass
class Coverage:
    """What a recipe covers of the matrices of a model."""

    parts: dict[str, PartCoverage]
    """``attention`` (state spaces included), ``mlp``, ``experts``, ``router``, ``head``,
    ``embedding``, ``convolution`` and ``other``, as far as the model has them."""
    promised_parameters: int
    """Of attention, MLP, experts and other, without what ``method.ignore`` and ``method.keep``
    leave dense on purpose; 0 where the recipe rounds nothing."""
    quantized_share: float | None
    """Fraction of those that are quantized; ``None`` where nothing is promised."""
    left_dense: list[str]
    """Promised layers that are not quantized, at most 50 of them."""
    left_dense_layers: int
    """How many there are."""


def measure_coverage(
    checkpoint: Path, *, rounds: bool, ignore: Collection[str], kept: Collection[str]
) -> tuple[Coverage, float]:
    """The coverage of a checkpoint, and stored bits per weight of what its recipe covers.

    Args:
        checkpoint: Directory of safetensors or GGUF files.
        rounds: Whether the recipe rounds at all: ``none`` and GGUF's 16-bit types do not.
        ignore: ``method.ignore``: names, or ``re:`` and a regular expression.
        kept: Layers that the recipe leaves dense by name.

    Raises:
        ValueError: There is no matrix.
    """
    layers = stored_layers(checkpoint)
    if not layers:
        raise ValueError(f"{checkpoint} has no matrices")
    is_gguf = any(layer.format == GGUF for layer in layers)
    promised = [
        layer
        for layer in layers
        if layer.part in _PROMISED and not _is_left_out(layer, ignore, kept, is_gguf)
    ]
    left = [layer for layer in promised if not layer.is_quantized] if rounds else []
    weights = sum(layer.elements for layer in promised)
    covered = weights - sum(layer.elements for layer in left)
    # A head that was quantized is covered, though only some methods promise it.
    heads = [x for x in layers if x.part == "head" and x.is_quantized and not is_gguf]
    counted = [*promised, *heads] or layers
    bits = 8 * sum(layer.bytes for layer in counted) / sum(layer.elements for layer in counted)
    names = sorted({layer.name for layer in left}, key=_natural)
    coverage = Coverage(
        parts=_parts(layers),
        promised_parameters=weights if rounds else 0,
        quantized_share=covered / weights if rounds and weights else None,
        left_dense=names[:_MOST_NAMES],
        left_dense_layers=len(names),
    )
    return coverage, bits


def describe_shortfall(coverage: Coverage) -> str | None:
    """One line on promised layers that stayed dense; ``None`` when there is none."""
    if coverage.quantized_share is None or not coverage.left_dense_layers:
        return None
    shown = coverage.left_dense[:3]
    more = coverage.left_dense_layers - len(shown)
    rest = f" and {more} more" if more else ""
    parts = ", ".join(
        f"{name} {part.quantized_share:.0%} at {part.bits_per_parameter:.2f} bits"
        for name, part in coverage.parts.items()
        if name in _PROMISED
    )
    return (
        f"{coverage.quantized_share:.1%} of the parameters that the recipe promises are quantized "
        f"({parts}); dense: {', '.join(shown)}{rest}"
    )


def matches(name: str, patterns: Collection[str]) -> bool:
    """Whether a layer is named by one of ``method.ignore``'s patterns."""
    return any(
        name == pattern
        or name.endswith(f".{pattern}")  # as bitsandbytes takes them
        or (pattern.startswith("re:") and re.match(pattern.removeprefix("re:"), name) is not None)
        for pattern in patterns
    )


def _is_left_out(
    layer: StoredLayer, ignore: Collection[str], kept: Collection[str], is_gguf: bool
) -> bool:
    if layer.is_quantized:
        return False
    if is_gguf:
        # llama.cpp's names are not those of the patterns, each of which named a tensor it kept.
        return bool(ignore)
    return layer.name in kept or matches(layer.name, ignore)


def _parts(layers: list[StoredLayer]) -> dict[str, PartCoverage]:
    parts = {}
    for part in dict.fromkeys(sorted(layer.part for layer in layers)):
        own = [layer for layer in layers if layer.part == part]
        total = sum(layer.elements for layer in own)
        quantized = sum(layer.elements for layer in own if layer.is_quantized)
        bits = 8 * sum(layer.bytes for layer in own) / total
        parts[part] = PartCoverage(total, quantized / total, bits)
    return parts


def _natural(name: str) -> list[tuple[int, str]]:
    """Layer 2 before layer 10."""
    return [(int(x), "") if x.isdigit() else (0, x) for x in re.split(r"(\d+)", name)]
