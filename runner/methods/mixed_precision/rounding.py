"""Rounds single matrices to nearest, on the same grid as method ``rtn``."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.layer_format import UNQUANTIZED, LayerFormat, is_unquantized
from runner.errors import StageError
from runner.methods.recipe import Recipe

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Rounding:
    """A grid: its numbers, what shares a scale, and whether it has a zero point."""

    bits: Bits
    group_size: GroupSize
    sym: bool

    @classmethod
    def integers(cls, num_bits: int, group_size: GroupSize, sym: bool) -> "Rounding":
        """A grid of integers, which meet activations of 16 bits."""
        return cls(Bits(NumberFormat(NumberType.int, num_bits)), group_size, sym)

    @property
    def label(self) -> str:
        """Named as recipes are: ``w4a16-g64``."""
        grid = LayerFormat(self.bits, self.group_size).label
        return f"{grid}{'' if self.sym else ',sym=false'}"


def rounding_of(recipe: Recipe, layer_format: LayerFormat) -> Rounding:
    """The grid that a recipe's layers of a format have."""
    return Rounding(layer_format.bits, layer_format.group_size, not recipe.method.has_zero_points)


def rounding_named(recipe: Recipe, candidate: str) -> str:
    """What sensitivities call the format of a candidate."""
    layer_format = recipe.format_named(candidate)
    if is_unquantized(candidate):
        return UNQUANTIZED
    return candidate if layer_format is None else rounding_of(recipe, layer_format).label


def rounded(weight: "torch.Tensor", rounding: Rounding, scale_dtype: "torch.dtype") -> Any:
    """The matrix as it reads after rounding; scales are first rounded to their stored type.

    Args:
        weight: Shape (outputs, inputs).
        rounding: The grid. Its range goes from the smallest to the largest weight.
        scale_dtype: The 16-bit type that the checkpoint stores scales in.

    Raises:
        StageError: The group size does not divide the inputs.
    """
    from compressed_tensors.quantization import QuantizationArgs, fake_quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    size = rounding.group_size.size
    if size is not None and weight.shape[-1] % size:
        raise StageError(f"groups of {size} do not divide a layer's {weight.shape[-1]} inputs")
    arguments = QuantizationArgs(
        num_bits=rounding.bits.weight.num_bits,
        type="int",
        strategy=rounding.group_size.granularity.value,
        group_size=size,
        symmetric=rounding.sym,
        scale_dtype=scale_dtype,
    )
    if size:
        low, high = weight.reshape(weight.shape[0], -1, size).aminmax(dim=-1)
    elif rounding.group_size.granularity is Granularity.channel:
        low, high = weight.aminmax(dim=-1, keepdim=True)
    else:
        low, high = weight.aminmax()
    scale, zero_point = calculate_qparams(low, high, arguments)
    return fake_quantize(weight, scale, zero_point, arguments)


@contextlib.contextmanager
def all_rounded(
    modules: list["torch.nn.Module"], rounding: Rounding, scale_dtype: "torch.dtype"
) -> Iterator[None]:
    """Within the block, these modules have rounded weights; weights tied to them have not."""
    import torch

    originals: list[Any] = [module.weight for module in modules]
    try:
        for module, original in zip(modules, originals, strict=True):
            weight = rounded(original.data, rounding, scale_dtype).to(original.dtype)
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            module.weight = original
