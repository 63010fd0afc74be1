"""Unpacks the layers of HQQ checkpoints, in plain torch.

A layer is stored as the library's ``HQQLinear`` is: integers packed along the groups (``W_q``), a
scale and a zero point for each, and what else is needed to unpack them, numbers and texts alike as
tensors.
"""

import math
from typing import TYPE_CHECKING, Any

from runner.engines.hf.unpacked_layer import UnpackedLayer
from runner.errors import StageError

if TYPE_CHECKING:
    import torch

_WORD_BITS = {"8bit_u8": (8, 1), "4bit_u8": (4, 2), "3bit_32": (3, 10), "2bit_u8": (2, 4),
              "1bit_u8": (1, 8)}  # fmt: skip
"""Bits of an integer and how many a word holds, the first in the highest bits, by the packing."""
_NEEDED = ("W_q", "scale", "zero", "shape", "group_size", "axis", "packing")


def unpack_hqq(tensors: dict[str, Any]) -> dict[str, UnpackedLayer]:
    """Quantized layers by name; their parts are taken out of ``tensors``.

    Raises:
        StageError: A part is missing, or packed in an unknown way.
    """
    layers: dict[str, dict[str, Any]] = {
        name.removesuffix(".W_q"): {} for name in tensors if name.endswith(".W_q")
    }
    for name in [*tensors]:
        layer, _, part = name.rpartition(".")
        if layer in layers and part != "bias":
            layers[layer][part] = tensors.pop(name)
    return {name: UnpackedLayer(dequantize_hqq(own, name)) for name, own in layers.items()}


def dequantize_hqq(parts: dict[str, Any], layer: str) -> "torch.Tensor":
    """The dense float32 matrix of one layer, an output channel a row.

    Args:
        parts: Its tensors by their last names.
        layer: Its name, for messages.

    Raises:
        StageError: A part is missing, or packed in an unknown way.
    """
    import torch

    if lacking := [f"{layer}.{part}" for part in _NEEDED if part not in parts]:
        raise StageError(
            f"the checkpoint lacks {', '.join(lacking)}, or has scales that are quantized "
            "themselves, which hqq 0.2.8 does not write: create it again"
        )
    packing = "".join(map(chr, parts["packing"].tolist()))
    if packing not in _WORD_BITS:
        raise StageError(f"engine=hf does not read hqq checkpoints packed as {packing} ({layer})")
    bits, together = _WORD_BITS[packing]
    words = parts["W_q"]
    if words.is_floating_point():  # the same bits, viewed as floats
        words = words.view(torch.int32 if packing == "3bit_32" else torch.uint8)
    words = words.to(torch.int64)
    shifts = [bits * (together - 1 - place) for place in range(together)]
    values = torch.cat([(words >> shift) & (2**bits - 1) for shift in shifts])
    shape = [int(size) for size in parts["shape"].tolist()]
    size, axis = int(parts["group_size"]), int(parts["axis"])
    # Three bits are padded to whole words.
    values = values[: size if axis == 0 else math.prod(shape) // size]
    steps = values.float() - parts["zero"].float()
    dense: torch.Tensor = (steps * parts["scale"].float()).reshape(shape)
    return dense
