"""Unpacks the tensors of torchao's checkpoints, in plain torch.

torchao writes the parts of each quantized tensor side by side, and into the file's metadata what
class they make, its blocks, and how activations are rounded before they meet it.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from runner.engines.hf.unpacked_layer import UnpackedLayer
from runner.errors import StageError

if TYPE_CHECKING:
    import torch

_PARTS = ("qdata", "scale", "zero_point", "scale_and_zero", "act_quant_scale",
          "act_quant_zero_point", "act_pre_scale")  # fmt: skip
_DENSE = "Tensor"
_INT8 = 127.5
"""Largest magnitude over the scale: torchao spreads it over -128 to 127."""
_FLOAT8 = 448.0
"""Largest number of E4M3."""
_LEAST_SCALE = {"int8": 1.1920929e-07, "float8": 1e-12}
"""Which torchao sees that scales of tokens do not fall below."""


def unpack_torchao(
    tensors: dict[str, Any], metadata: Mapping[str, str]
) -> dict[str, UnpackedLayer]:
    """Quantized weights by layer; their parts are taken out of ``tensors``.

    Args:
        tensors: Of the checkpoint, by name.
        metadata: Of its files, together.

    Raises:
        StageError: The metadata is not torchao's, or a class of tensors is unknown.
    """
    unpacked = {}
    for name in json.loads(metadata.get("tensor_names", "[]")):
        stated = json.loads(metadata[name])
        if stated["_type"] == _DENSE:
            continue
        layer, _, last = name.rpartition(".")
        found = {part: tensors.pop(f"{layer}._{last}_{part}", None) for part in _PARTS}
        parts = {part: tensor for part, tensor in found.items() if tensor is not None}
        if lacking := set(stated["_tensor_data_names"]) - parts.keys():
            names = ", ".join(f"{layer}._{last}_{part}" for part in sorted(lacking))
            raise StageError(f"the checkpoint lacks {names}: download or create it again")
        unpacked[layer] = dequantize_torchao(stated, parts, name)
    if not unpacked:
        raise StageError(
            "the checkpoint's safetensors files say nothing of torchao's tensors in their "
            "metadata: engine=hf reads what torchao 0.15 and later wrote as safetensors"
        )
    return unpacked


def dequantize_torchao(
    stated: Mapping[str, Any], parts: Mapping[str, Any], name: str
) -> UnpackedLayer:
    """The dense matrix of one weight.

    Args:
        stated: Its entry of the metadata.
        parts: Its tensors.
        name: For messages.

    Raises:
        StageError: Its class, or the rounding of its activations, is unknown.
    """
    kind, data = stated["_type"], stated["_data"]
    if "act_pre_scale" in parts or "act_quant_scale" in parts:
        raise StageError(f"engine=hf does not read torchao's static scales of activations ({name})")
    if kind == "Int4Tensor":
        return UnpackedLayer(_int4(parts))
    if kind not in ("Int8Tensor", "Float8Tensor", "IntxUnpackedToInt8Tensor"):
        raise StageError(f"engine=hf does not read torchao's {kind} ({name})")
    if data.get("activation_quantization") is not None:
        raise StageError(f"engine=hf does not read {kind} with rounded activations ({name})")
    weight = parts["qdata"].float()
    if (zero := parts.get("zero_point")) is not None:
        weight = weight - _spread(zero, weight.shape)
    weight = weight * _spread(parts["scale"], weight.shape)
    return UnpackedLayer(weight, _activations(data.get("act_quant_kwargs"), name))


def _int4(parts: Mapping[str, Any]) -> "torch.Tensor":
    """Two weights a byte, the first in the low bits; scales and zero points have a group a row."""
    import torch

    packed = parts["qdata"].to(torch.int8)
    low, high = (packed << 4) >> 4, packed >> 4  # with their signs
    integers = torch.stack([low, high], dim=-1).flatten(-2).float()
    scale, zero = (
        _spread(parts[part].t().contiguous(), integers.shape) for part in ("scale", "zero_point")
    )
    dense: torch.Tensor = integers * scale + zero
    return dense


def _spread(values: "torch.Tensor", shape: "torch.Size") -> "torch.Tensor":
    """One value a block, as one a weight."""
    wide = values.float()
    if wide.dim() < len(shape):
        wide = wide.reshape(*wide.shape, *[1] * (len(shape) - wide.dim()))
    for place, size in enumerate(shape):
        wide = wide.repeat_interleave(size // wide.shape[place], dim=place)
    return wide


def _activations(
    stated: Mapping[str, Any] | None, name: str
) -> "Callable[[torch.Tensor], torch.Tensor] | None":
    """How a layer's inputs are rounded; ``None``: not at all."""
    if stated is None:
        return None
    data = stated["_data"]
    symmetric = (data.get("mapping_type") or {}).get("_data", "SYMMETRIC") == "SYMMETRIC"
    bounded = data.get("hp_value_lb") is not None or data.get("hp_value_ub") is not None
    if data["granularity"]["_type"] != "PerRow" or not symmetric or bounded:
        raise StageError(
            f"engine=hf rounds torchao's activations token by token and around zero only ({name})"
        )
    if data.get("reduce_range"):
        raise StageError(f"engine=hf does not read torchao's reduced ranges ({name})")
    return _round_float8 if "Float8" in stated["_type"] else _round_int8


def _round_int8(inputs: "torch.Tensor") -> "torch.Tensor":
    """To the nearest of 256 values, with one scale a token."""
    wide = inputs.float()
    scale = (wide.abs().amax(-1, keepdim=True) / _INT8).clamp(min=_LEAST_SCALE["int8"])
    steps = (wide * (1.0 / scale)).round().clamp(-math.ceil(_INT8), math.floor(_INT8))
    return (steps * scale).to(inputs.dtype)


def _round_float8(inputs: "torch.Tensor") -> "torch.Tensor":
    """To the nearest 8-bit float (E4M3), with one scale a token."""
    import torch

    wide = inputs.float()
    scale = (wide.abs().amax(-1, keepdim=True) / _FLOAT8).clamp(min=_LEAST_SCALE["float8"])
    steps = (wide / scale).clamp(-_FLOAT8, _FLOAT8).to(torch.float8_e4m3fn).float()
    return (steps * scale).to(inputs.dtype)
