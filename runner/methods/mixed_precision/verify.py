"""Verifies that a checkpoint has the formats that its recipe requests."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from runner.config.schema.bits import Bits, width_of
from runner.data.models.tensors import matrix_shapes, report_tensors, written_widths
from runner.errors import StageError

_DENSE_BITS = 16
_SLACK_BITS = 0.005
"""Rows are padded to words of 32 bits, which a width of its own cannot be blamed for."""


@dataclass
class Widths:
    """Widths of a checkpoint's linear layers, read from its files."""

    average_bits: float
    """Bits a weight over the decoder's linear layers, scales not counted; unquantized ones 16."""
    layers: dict[str, int]
    """Number of layers of each format."""


def check_widths(model: Path, checkpoint: Path, planned: dict[str, str], bits: Bits) -> Widths:
    """Read the widths back and compare them with the plan and the budget.

    Raises:
        StageError: A layer has another width, or the budget is exceeded.
    """
    shapes, written = matrix_shapes(model), written_widths(model, checkpoint)
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
        total += size * width
        weights += size
    average = total / weights
    if bits.average is not None and average > bits.average + _SLACK_BITS:
        raise StageError(
            f"the checkpoint has {average:.3f} bits per weight on average, "
            f"bits.average={bits.average:g} was requested"
        )
    size_bytes = report_tensors(checkpoint).bytes
    if bits.bytes is not None and size_bytes > bits.bytes:
        raise StageError(
            f"the checkpoint's tensors have {size_bytes} bytes, "
            f"the limit is bits.bytes={bits.bytes}"
        )
    counts = Counter(planned.values())
    return Widths(
        average, {name: counts[name] for name in sorted(counts, key=lambda one: width_of(one) or 0)}
    )
