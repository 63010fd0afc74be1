"""Sizes and dtypes of a checkpoint's tensors, from file headers."""

from dataclasses import dataclass
from pathlib import Path

from runner.data.models.weights import tensor_headers


@dataclass
class DtypeShare:
    """Tensors of one dtype."""

    tensors: int
    elements: int
    bytes: int


@dataclass
class TensorReport:
    """Tensors of a checkpoint by dtype."""

    parameters: int
    """Elements of all tensors; packed formats hold several weights in one element."""
    bytes: int
    by_dtype: dict[str, DtypeShare]


def report_tensors(directory: Path) -> TensorReport:
    """Count a checkpoint's tensors, elements and bytes by dtype."""
    shares: dict[str, DtypeShare] = {}
    for header in tensor_headers(directory).values():
        share = shares.setdefault(header.dtype, DtypeShare(0, 0, 0))
        share.tensors += 1
        share.elements += header.elements
        share.bytes += header.bytes
    return TensorReport(
        parameters=sum(share.elements for share in shares.values()),
        bytes=sum(share.bytes for share in shares.values()),
        by_dtype=dict(sorted(shares.items())),
    )


def matrix_shapes(model: Path) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of each matrix in a model's safetensors, by its layer's name."""
    return {
        name.removesuffix(".weight"): (header.shape[0], header.shape[1])
        for name, header in tensor_headers(model).items()
        if name.endswith(".weight") and len(header.shape) == 2
    }


def written_widths(model: Path, checkpoint: Path) -> dict[str, float]:
    """Bits a weight of each matrix as it was written, scales not counted, by layer."""
    stored = tensor_headers(checkpoint)
    widths = {}
    for layer, (outputs, inputs) in matrix_shapes(model).items():
        stored_weight = stored.get(f"{layer}.weight_packed") or stored.get(f"{layer}.weight")
        if stored_weight is not None:
            widths[layer] = 8 * stored_weight.bytes / (outputs * inputs)
    return widths
