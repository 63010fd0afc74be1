"""Reads checkpoints of NVIDIA Model Optimizer as dense models, in plain torch.

transformers does not read them. Weights are dequantized; activations are rounded in front of each
layer as the checkpoint's ``quant_algo`` says, so that quality is the recipe's. Formulas are those
of ``modelopt.torch.quantization.qtensor`` and ``modelopt.torch.export.quant_utils`` 0.47.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.engines.hf.dequantize import filled, read_tensors, skeleton_of
from runner.errors import StageError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Rounding = Callable[[torch.Tensor], torch.Tensor]

_PARTS = ("weight", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Magnitudes of 4-bit floats by their three lower bits; the fourth is the sign."""
_E4M3_MAX, _E2M1_MAX, _INT8_MAX = 448.0, 6.0, 127.0
_NVFP4_BLOCK = 16
_SMALLEST_FP8 = 2.0**-9
"""E4M3's smallest number above zero, which ModelOpt takes for a block's scale of less."""
_WIDE = ("W4A16_AWQ", "W4A16_NVFP4", "W8A16")
"""Algorithms that leave activations as they are."""


def load_modelopt(
    directory: Path, dtype: "torch.dtype", *, trust_remote_code: bool = False
) -> "PreTrainedModel":
    """Load a checkpoint into a model of dense weights that rounds activations.

    Args:
        directory: The checkpoint.
        dtype: Of the dense weights.
        trust_remote_code: Whether the model's own code may run.

    Raises:
        StageError: The checkpoint lacks weights of the model, or is stored in an unknown way.
    """
    skeleton, stated = skeleton_of(directory, trust_remote_code)
    algorithm = str(stated.get("quant_algo"))
    tensors = read_tensors(directory)
    suffix = ".weight_scale"
    layers = [name.removesuffix(suffix) for name in tensors if name.endswith(suffix)]
    roundings: dict[str, Rounding] = {}
    for layer in layers:
        parts = {part: tensors.pop(f"{layer}.{part}", None) for part in _PARTS}
        if parts["weight"] is None:
            raise StageError(f"{directory} lacks {layer}.weight: download or create it again")
        weight = dequantize(parts)
        factors = parts["pre_quant_scale"]
        if algorithm in _WIDE:
            tensors[f"{layer}.weight"] = weight if factors is None else weight * factors.float()
            continue
        tensors[f"{layer}.weight"] = weight
        roundings[layer] = rounding(algorithm, parts["input_scale"], factors)
    model = filled(skeleton, tensors, dtype, directory)
    for layer, rounds in roundings.items():
        _round_inputs(model, layer, rounds)
    return model


def dequantize(parts: dict[str, Any]) -> "torch.Tensor":
    """The dense float32 matrix of one layer, an output channel a row.

    Args:
        parts: Tensors by the ends of their names; ``None`` where there is none.

    Raises:
        StageError: The packing is unknown.
    """
    import torch

    weight, scale = parts["weight"], parts["weight_scale"]
    if weight.dtype is torch.uint8 and parts["weight_scale_2"] is not None:
        values = _floats_of_pairs(weight)
        scales = scale.float() * parts["weight_scale_2"].float()
        return values * _spread(scales, values.shape[1])
    if weight.dtype is torch.uint8 and scale.is_floating_point():
        values = _integers_of_pairs(weight)
        return values * _spread(scale.float(), values.shape[1])
    if weight.dtype in (torch.float8_e4m3fn, torch.int8) and scale.is_floating_point():
        if scale.numel() == 1:
            scale = scale.reshape(1)
        if scale.dim() == 1:
            dense: torch.Tensor = weight.float() * scale.float()[:, None]
            return dense
    raise StageError(
        f"engine=hf does not read ModelOpt's {weight.dtype} with scales of {scale.dtype} in shape "
        f"{tuple(scale.shape)}"
    )


def rounding(
    algorithm: str, input_scale: "torch.Tensor | None", factors: "torch.Tensor | None"
) -> "Rounding":
    """What becomes of a layer's inputs.

    Args:
        algorithm: ``quant_algo`` of the checkpoint.
        input_scale: Static scale; ``None`` where scales are dynamic.
        factors: Of each input, applied before (``pre_quant_scale``).

    Raises:
        StageError: The algorithm is unknown, or its scale is not there.
    """
    if algorithm == "FP8_PER_CHANNEL_PER_TOKEN":
        rounds: Rounding = _fp8_per_token
    elif algorithm in _STATIC and input_scale is not None:
        scale = float(input_scale)

        def rounds(inputs: "torch.Tensor") -> "torch.Tensor":
            return _STATIC[algorithm](inputs, scale)
    else:
        raise StageError(
            f"engine=hf does not read ModelOpt's {algorithm}"
            + (" without input_scale" if algorithm in _STATIC else "")
        )

    def scaled_and_rounded(inputs: "torch.Tensor") -> "torch.Tensor":
        wide = inputs.float()
        if factors is not None:
            wide = wide * factors.to(inputs.device).float()
        return rounds(wide).to(inputs.dtype)

    return scaled_and_rounded


def _fp8_per_token(inputs: "torch.Tensor") -> "torch.Tensor":
    scales = (inputs.abs().amax(dim=-1, keepdim=True) / _E4M3_MAX).clamp(min=1e-12)
    return _to_e4m3(inputs / scales) * scales


def _fp8(inputs: "torch.Tensor", scale: float) -> "torch.Tensor":
    return _to_e4m3(inputs / scale) * scale


def _int8(inputs: "torch.Tensor", scale: float) -> "torch.Tensor":
    return (inputs / scale).round().clamp(-_INT8_MAX - 1, _INT8_MAX) * scale


def _nvfp4(inputs: "torch.Tensor", scale: float) -> "torch.Tensor":
    blocks = inputs.reshape(*inputs.shape[:-1], -1, _NVFP4_BLOCK)
    largest = blocks.abs().amax(dim=-1, keepdim=True)
    of_blocks = _to_e4m3((largest / (_E2M1_MAX * scale)).clamp(min=_SMALLEST_FP8)) * scale
    return (_to_e2m1(blocks / of_blocks) * of_blocks).reshape(inputs.shape)


_STATIC = {"FP8": _fp8, "W8A8_SQ_PER_CHANNEL": _int8, "NVFP4": _nvfp4}
"""Algorithms whose activations have a static scale, of blocks' scales in NVFP4."""


def _to_e4m3(values: "torch.Tensor") -> "torch.Tensor":
    import torch

    return values.clamp(-_E4M3_MAX, _E4M3_MAX).to(torch.float8_e4m3fn).float()


def _to_e2m1(values: "torch.Tensor") -> "torch.Tensor":
    """The nearest 4-bit float, to the even one of two (which has no lowest bit)."""
    import torch

    magnitudes = values.abs()
    step = torch.where(magnitudes < 2, 0.5, torch.where(magnitudes < 4, 1.0, 2.0))
    return ((magnitudes / step).round() * step).clamp(max=_E2M1_MAX) * values.sign()


def _floats_of_pairs(pairs: "torch.Tensor") -> "torch.Tensor":
    """4-bit floats, two neighbours of a row in a byte, the first in its lower half."""
    import torch

    table = torch.tensor([*_E2M1, *(-one for one in _E2M1)])
    halves = torch.stack((pairs & 15, pairs >> 4), dim=-1)
    return table[halves.long()].reshape(pairs.shape[0], -1)


def _integers_of_pairs(pairs: "torch.Tensor") -> "torch.Tensor":
    """Signed 4-bit integers, of two neighbouring rows in a byte, the first in its lower half."""
    import torch

    halves = torch.stack((pairs & 15, pairs >> 4), dim=1).to(torch.int8)
    signed = torch.where(halves > 7, halves - 16, halves)
    return signed.reshape(-1, pairs.shape[1]).float()


def _spread(scales: "torch.Tensor", inputs: int) -> "torch.Tensor":
    """Scales of groups, repeated for each of the groups' inputs."""
    return scales.repeat_interleave(inputs // scales.shape[1], dim=1)


def _round_inputs(model: Any, layer: str, rounds: "Rounding") -> None:
    """Have a layer round what it is given.

    Raises:
        StageError: The model has no such module: it fuses the layer with others.
    """
    modules = dict(model.named_modules())
    module = modules.get(layer) or modules.get(re.sub(r"^model\.language_model\.", "model.", layer))
    if module is None:
        raise StageError(
            f"engine=hf cannot round the activations of {layer}, which transformers fuses with "
            "other layers"
        )
    module.register_forward_pre_hook(lambda _, given: (rounds(given[0]), *given[1:]))
