"""Verifies that a checkpoint has the formats that its recipe requests."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from runner.config.schema.bits import Bits, width_of
from runner.data.models.tensors import matrix_shapes, report_tensors, written_widths
from runner.data.models.weights import tensor_headers
from runner.errors import StageError
from runner.methods.mixed_precision.active import active_bytes, routed_share
from runner.methods.mixed_precision.stored import stored_bytes
from runner.methods.recipe import Recipe

_DENSE_BITS = 16
_SLACK_BITS = 0.005
"""Rows are padded to words of 32 bits, which a width of its own cannot be blamed for."""


@dataclass
class Widths:
    """Formats of a checkpoint's linear layers, read from its files."""

    average_bits: float
    """Bits a weight over the decoder's linear layers, scales not counted; unquantized ones 16."""
    layers: dict[str, int]
    """Number of layers of each format."""
    budget_share: float | None = None
    """Part of the budget that is used; ``None`` without one, and in older records. Where it is less
    than 0.995, a warning of the run says why."""
    active_bytes: int | None = None
    """Of a mixture of experts: what one token reads, as ``bits.active_bytes`` counts."""
    active_budget_share: float | None = None
    """Part of ``bits.active_bytes`` that is used; ``None`` without it."""


def check_widths(model: Path, checkpoint: Path, planned: dict[str, str], recipe: Recipe) -> Widths:
    """Read the formats back and compare them with the plan and the budget.

    Raises:
        StageError: A layer is stored in other bits or bytes, or the budget is exceeded.
    """
    shapes, written = matrix_shapes(model), written_widths(model, checkpoint)
    sizes = _layer_bytes(checkpoint)
    total = weights = 0.0
    for layer, plan in planned.items():
        size = shapes[layer][0] * shapes[layer][1]
        written_width = written.get(layer, 0.0)
        width = min(written_width, _DENSE_BITS)
        if abs(width - (width_of(plan) or _DENSE_BITS)) > 0.5:
            raise StageError(
                f"{layer} was written with {written_width:.2f} bits per weight, "
                f"{plan} was requested"
            )
        stored = recipe.format_named(plan)
        expected = stored_bytes(shapes[layer], stored, not recipe.method.has_zero_points)
        if stored is not None and sizes[layer] != expected:
            raise StageError(
                f"{layer} was written in {sizes[layer]} bytes, as {plan} it has {expected}"
            )
        total += size * width
        weights += size
    average = total / weights
    used = _within_budget(average, report_tensors(checkpoint).bytes, recipe.bits)
    share = routed_share(model)
    active = active_bytes(checkpoint, share) if share < 1 else None
    counts = Counter(planned.values())
    names = sorted(counts, key=lambda name: width_of(name) or _DENSE_BITS)
    layers = {name: counts[name] for name in names}
    return Widths(average, layers, used, active, within_active(active, recipe.bits))


def _within_budget(average: float, size_bytes: int, bits: Bits) -> float | None:
    """The part of the budget that is used."""
    if bits.average is not None and average > bits.average + _SLACK_BITS:
        raise StageError(
            f"the checkpoint has {average:.3f} bits per weight on average, "
            f"bits.average={bits.average:g} was requested"
        )
    if bits.bytes is not None and size_bytes > bits.bytes:
        raise StageError(
            f"the checkpoint's tensors have {size_bytes} bytes, "
            f"the limit is bits.bytes={bits.bytes}"
        )
    if bits.bytes is not None:
        return size_bytes / bits.bytes
    return None if bits.average is None else average / bits.average


def within_active(active: int | None, bits: Bits) -> float | None:
    """The part of the budget of bytes for a token that is used."""
    if bits.active_bytes is None or active is None:
        return None
    if active > bits.active_bytes:
        raise StageError(
            f"a token reads {active} bytes of the checkpoint, the limit is "
            f"bits.active_bytes={bits.active_bytes}"
        )
    return active / bits.active_bytes


def _layer_bytes(checkpoint: Path) -> Counter[str]:
    """Of a layer's weights, scales and zero points: all that bears its name but a bias."""
    sizes: Counter[str] = Counter()
    for name, header in tensor_headers(checkpoint).items():
        layer, _, part = name.rpartition(".")
        # Where inputs have static scales, those belong to the layer as little as a bias.
        if part not in ("bias", "input_scale", "input_zero_point"):
            sizes[layer] += header.bytes
    return sizes
