"""Verifies that a GGUF file's tensors have the types that its recipe requests."""

from collections import Counter
from pathlib import Path

from runner.config.schema.bits import Bits
from runner.data.models.gguf_file import read_gguf
from runner.data.models.tensors import report_tensors
from runner.data.models.weights import tensor_headers
from runner.engines.llama_cpp.footprint import gguf_footprint
from runner.errors import StageError
from runner.methods.mixed_precision.allocate_types import EXPERTS
from runner.methods.mixed_precision.verify import Widths, within_active


def check_types(checkpoint: Path, planned: dict[str, str], bits: Bits) -> Widths:
    """Read the types back and compare them with the plan and the budget.

    Args:
        checkpoint: Directory of the GGUF file.
        planned: Type by tensor.
        bits: With the budget.

    Raises:
        StageError: A tensor has another type, or the budget is exceeded.
    """
    headers = tensor_headers(checkpoint)
    for tensor, kind in planned.items():
        if (written := headers[tensor].dtype) != kind:
            raise StageError(f"{tensor} was written as {written}, {kind} was requested")
    found = [headers[tensor] for tensor in planned]
    average = 8 * sum(one.bytes for one in found) / sum(one.elements for one in found)
    if bits.average is not None and average > bits.average:
        raise StageError(
            f"the file has {average:.4f} bits per weight on average, "
            f"bits.average={bits.average:g} was requested"
        )
    size_bytes = report_tensors(checkpoint).bytes
    if bits.bytes is not None and size_bytes > bits.bytes:
        raise StageError(
            f"the file's tensors have {size_bytes} bytes, the limit is bits.bytes={bits.bytes}"
        )
    share = None
    if bits.bytes is not None:
        share = size_bytes / bits.bytes
    elif bits.average is not None:
        share = average / bits.average
    counts = dict(sorted(Counter(planned.values()).items()))
    active = _active_bytes(checkpoint, size_bytes) if _has_experts(planned) else None
    return Widths(average, counts, share, active, within_active(active, bits))


def _has_experts(planned: dict[str, str]) -> bool:
    return any(EXPERTS in tensor for tensor in planned)


def _active_bytes(checkpoint: Path, size_bytes: int) -> int:
    """What one token reads, as stage ``bench`` counts it."""
    (file,) = checkpoint.glob("*.gguf")
    return gguf_footprint(read_gguf(file), size_bytes).streamed_bytes_per_step
