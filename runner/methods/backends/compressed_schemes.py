"""Schemes of compressed-tensors for recipes: which numbers, which scales, how they are stored."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.layer_format import LayerFormat
from runner.data.models.kept_dtypes import KeptDtypes
from runner.methods.base import ActivationScales, QuantizeJob
from runner.methods.recipe import Recipe

_INTEGERS_BY_FEWER = dict.fromkeys(("w4a8", "w4a_fp8_e4m3", "w4a4"), ("per_channel", "g*"))
FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "w8a8": ("per_tensor", "per_channel"),
        **_INTEGERS_BY_FEWER,
        "fp8_e4m3": ("per_tensor", "per_channel", "b*", "g32"),
        "fp8_e4m3_a16": ("per_tensor", "per_channel", "b*", "g32"),
        "fp4": ("g16", "g32"),
        "fp4_a4": ("g16", "g32"),
    }
)
"""Bits schemes besides integer weights alone, each with its granularities.

Floats in groups of 16 are NVFP4's, those in groups of 32 are Microscaling's (OCP MX).
"""
_NVFP4 = 16
_FLOAT_TYPES = {NumberType.float, NumberType.bfloat}
_PACKED = "pack-quantized"


def build_scheme(
    job: QuantizeJob,
    *,
    sym: bool,
    observer: str,
    activation_scales: ActivationScales = ActivationScales.dynamic,
    activation_order: str | None = None,
    layer_format: LayerFormat | None = None,
    targets: tuple[str, ...] = ("Linear",),
) -> Any:
    """The compressed-tensors scheme of a recipe, or of those of its layers that have one format.

    Scales are rounded to the type they are stored in before weights are rounded with them, so
    that what is stored is exactly what was optimised.
    """
    from compressed_tensors.quantization import QuantizationScheme

    stored = layer_format or job.recipe.own_format
    dynamic = activation_scales is ActivationScales.dynamic
    activations = activation_arguments(stored, dynamic)
    # Left alone, the library stores integers of 4 bits in 8 where activations are rounded. Packed
    # they are half as large, and GPUs have kernels for them (vLLM 0.33: CUTLASS, Humming).
    number = stored.bits.weight
    narrow = number.type is NumberType.int and number.num_bits < 8
    usual = KeptDtypes(job.model_directory).usual
    return QuantizationScheme(
        targets=list(targets),
        weights=weight_arguments(
            stored, usual, symmetric=sym, observer=observer, actorder=activation_order
        ),
        input_activations=activations,
        format=_PACKED if narrow and activations is not None else None,
    )


def weight_arguments(stored: LayerFormat, usual: Any, **others: Any) -> Any:
    """compressed-tensors' arguments for the weights of a format.

    Args:
        stored: The format.
        usual: Torch dtype that scales are stored in where the format does not say: the model's.
        others: Further arguments.
    """
    from compressed_tensors.quantization import QuantizationArgs

    number = stored.bits.weight
    return QuantizationArgs(
        **_number(number), **_scales(number, stored.group_size, usual), **others
    )


def activation_arguments(stored: LayerFormat, dynamic: bool) -> Any:
    """Those for the inputs of its layers; ``None`` where they are not rounded."""
    from compressed_tensors.quantization import QuantizationArgs

    bits = stored.bits
    if not bits.quantizes_activations:
        return None
    return QuantizationArgs(
        **_number(bits.activation), **_scales_of_activations(bits, stored.group_size, dynamic)
    )


def needs_text_for_activations(recipe: Recipe) -> bool:
    """Whether some scale of the activations is found on text."""
    rounding = [one for one in recipe.formats if one.bits.quantizes_activations]
    if any(_is_nvfp4(one.bits.activation, one.group_size) for one in rounding):
        return True  # its scale of the whole tensor
    return (
        bool(rounding)
        and getattr(recipe.method, "activation_scales", None) is ActivationScales.static
    )


def calibration_of_activations(recipe: Recipe) -> Calibration | None:
    """The calibration of a method that needs text for scales of activations alone."""
    return recipe.calibration if needs_text_for_activations(recipe) else None


def _number(number: NumberFormat) -> dict[str, Any]:
    kind = "float" if number.type in _FLOAT_TYPES else "int"
    return {"num_bits": number.num_bits, "type": kind}


def _scales(number: NumberFormat, group_size: GroupSize, usual: Any) -> dict[str, Any]:
    """Strategy and stored type of the weights' scales; ``usual``: the model's own type."""
    import torch

    if group_size.granularity is Granularity.block:
        block = [group_size.size, group_size.size]
        return {"strategy": "block", "block_structure": block, "scale_dtype": usual}
    if group_size.granularity is not Granularity.group:
        return {"strategy": group_size.granularity.value, "scale_dtype": usual}
    grouped: dict[str, Any] = {"strategy": "group", "group_size": group_size.size}
    if number.type is not NumberType.float:
        return {**grouped, "scale_dtype": usual}
    if _is_nvfp4(number, group_size):
        fp8 = torch.float8_e4m3fn
        return {**grouped, "strategy": "tensor_group", "scale_dtype": fp8, "zp_dtype": fp8}
    return {**grouped, "scale_dtype": torch.uint8, "zp_dtype": torch.uint8}


def _scales_of_activations(bits: Bits, group_size: GroupSize, dynamic: bool) -> dict[str, Any]:
    """Strategy of the activations' scales, which follow the weights' where those are blocks."""
    import torch

    if bits.weight.type is NumberType.float and group_size.is_sized:
        if group_size.granularity is Granularity.block:
            return {"strategy": "group", "group_size": group_size.size, "dynamic": True}
        scales = _scales(bits.activation, group_size, torch.float32)
        if _is_nvfp4(bits.activation, group_size):
            return {**scales, "dynamic": "local", "observer": "static_minmax"}
        return {**scales, "dynamic": True}
    return {"strategy": "token" if dynamic else "tensor", "dynamic": dynamic}


def _is_nvfp4(number: NumberFormat, group_size: GroupSize) -> bool:
    return number.type is NumberType.float and number.num_bits == 4 and group_size.size == _NVFP4
