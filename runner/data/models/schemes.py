"""How a quantized matrix is stored, told from the headers of its tensors."""

import math
from collections.abc import Mapping

from runner.data.models.header import Header

_SCALES = (
    "weight_scale", "weight_scale_inv", "scales", "weight.absmax", "SCB", "_weight_scale",
    "scale",
)  # fmt: skip
"""Tensors of scales, in the order they are looked for: of blocks before those of blocks' scales."""
_PACKED = ("weight_packed", "qweight", "blocks", "_weight_qdata", "W_q", "weight")
_FLOATS = {"F8_E4M3": "float8", "F8_E5M2": "float8"}
_PAIRS_OF_FLOATS = ("F8_E4M3", "F8_E8M0", "U8")
"""Types of the scales that only 4-bit floats have beside packed pairs."""


def scheme_of(own: Mapping[str, Header], elements: int) -> tuple[str, str]:
    """What numbers a matrix is stored in, and what of it shares a scale.

    Args:
        own: Headers of its tensors, by what of them follows the layer's name.
        elements: Weights it stands for.
    """
    weight = next((own[name] for name in _PACKED if name in own), None)
    scale = next((own[name] for name in _SCALES if name in own), None)
    return _numbers(own, weight, scale, elements), _shared(own, weight, scale, elements)


def _numbers(
    own: Mapping[str, Header], weight: Header | None, scale: Header | None, elements: int
) -> str:
    if weight is None or not elements:
        return ""
    if weight.dtype in _FLOATS:
        return _FLOATS[weight.dtype]
    bits = 8 * weight.bytes / elements
    state = [name for name in own if name.startswith("weight.quant_state.")]
    if state:
        return state[0].removeprefix("weight.quant_state.bitsandbytes__")
    if "blocks" in own or (
        weight.dtype == "U8" and scale is not None and scale.dtype in _PAIRS_OF_FLOATS
    ):  # fmt: skip
        return "float4"
    # Words of 32 bits hold as many numbers as fit whole: of 3 bits a little is left over.
    return f"int{math.floor(bits + 1e-6)}" if bits >= 1 else ""


def _shared(
    own: Mapping[str, Header], weight: Header | None, scale: Header | None, elements: int
) -> str:
    if scale is None or not scale.elements or weight is None:
        return ""
    if scale.elements == 1:
        return "per tensor"
    if not _lies_otherwise(own) and len(weight.shape) == 2 == len(scale.shape):
        outputs = weight.shape[0]
        inputs = elements // outputs
        rows, columns = (math.ceil(size / count) for size, count in
                         zip((outputs, inputs), scale.shape, strict=True))  # fmt: skip
        if rows > 1:
            return f"blocks of {rows} x {columns}"
        return "per channel" if columns == inputs else f"groups of {columns}"
    by_channel = "weight.absmax" not in own and "W_q" not in own
    if by_channel and sum(size > 1 for size in scale.shape) == 1:
        return "per channel"
    return f"groups of {round(elements / scale.elements)}"


def _lies_otherwise(own: Mapping[str, Header]) -> bool:
    """Whether scales are no matrix of as many rows as the weights have.

    So are those of GPTQ, AWQ and HQQ, and torchao's where zero points are floats, of 4 bits.
    """
    zero = own.get("_weight_zero_point")
    turned = zero is not None and zero.dtype in ("BF16", "F16", "F32")
    return "qweight" in own or "W_q" in own or turned
