"""Rounds single layers to nearest, on the same grids as method ``rtn``."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.layer_format import UNQUANTIZED, LayerFormat, is_unquantized
from runner.engines.hf.experts import round_products
from runner.errors import StageError
from runner.methods.backends.compressed_schemes import activation_arguments, weight_arguments
from runner.methods.mixed_precision.experts import ExpertMatrix
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


def rounded(
    weight: "torch.Tensor",
    rounding: Rounding,
    scale_dtype: "torch.dtype",
    largest: "torch.Tensor | None" = None,
) -> Any:
    """The matrix as it reads after rounding; scales are first rounded to their stored type.

    Args:
        weight: Shape (outputs, inputs).
        rounding: The grid. Its range goes from the smallest to the largest weight.
        scale_dtype: The 16-bit type that the checkpoint stores scales in.
        largest: Magnitude that NVFP4's scale of the whole matrix allows for, where it is shared
            with other matrices; by default this matrix's own.

    Raises:
        StageError: The group size does not divide the inputs.
    """
    from compressed_tensors.quantization import QuantizationStrategy, fake_quantize
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    stored, size = LayerFormat(rounding.bits, rounding.group_size), rounding.group_size.size
    is_block = rounding.group_size.granularity is Granularity.block
    if size is not None and weight.shape[-1] % size and not is_block:
        raise StageError(f"groups of {size} do not divide a layer's {weight.shape[-1]} inputs")
    arguments = weight_arguments(stored, scale_dtype, symmetric=rounding.sym)
    low, high = _ranges(weight, rounding.group_size)
    overall = None
    if arguments.strategy == QuantizationStrategy.TENSOR_GROUP:
        most = (weight.abs().max() if largest is None else largest).reshape(1)
        overall = generate_gparam(-most, most)
    scale, zero_point = calculate_qparams(low, high, arguments, global_scale=overall)
    return fake_quantize(weight, scale, zero_point, arguments, global_scale=overall)


def _ranges(weight: "torch.Tensor", group_size: GroupSize) -> "tuple[torch.Tensor, torch.Tensor]":
    """The smallest and the largest weights that share a scale."""
    size = group_size.size
    if group_size.granularity is Granularity.tensor:
        low, high = weight.aminmax()
        return low, high
    if group_size.granularity is Granularity.channel or size is None:
        low, high = weight.aminmax(dim=-1, keepdim=True)
        return low, high
    if group_size.granularity is Granularity.group:
        low, high = weight.reshape(len(weight), -1, size).aminmax(dim=-1)
        return low, high
    from compressed_tensors.quantization.utils import maybe_pad_tensor_for_block_quant

    padded = maybe_pad_tensor_for_block_quant(weight, [size, size])
    blocks = padded.reshape(len(padded) // size, size, -1, size)
    return blocks.amin(dim=(1, 3)), blocks.amax(dim=(1, 3))


@contextlib.contextmanager
def all_rounded(
    modules: "list[torch.nn.Module | ExpertMatrix]",
    rounding: Rounding,
    scale_dtype: "torch.dtype",
) -> Iterator[None]:
    """Within the block, these modules have rounded weights; weights tied to them have not.

    Where the format rounds activations, so are the modules' inputs. They are taken to be fused:
    NVFP4's scale of the whole matrix is one for all.
    """
    import torch

    originals: list[Any] = [module.weight for module in modules]
    largest = torch.stack([original.data.abs().max() for original in originals]).max()
    inputs = activation_arguments(LayerFormat(rounding.bits, rounding.group_size), dynamic=True)
    hooks: list[Any] = []
    if inputs is not None:
        experts = {id(m.experts): m.experts for m in modules if isinstance(m, ExpertMatrix)}
        hooks += [round_products(one, _rounds(inputs)) for one in experts.values()]
    try:
        for module, original in zip(modules, originals, strict=True):
            weight = rounded(original.data, rounding, scale_dtype, largest).to(original.dtype)
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
            if inputs is not None and isinstance(module, torch.nn.Linear):  # no embedding
                hooks.append(module.register_forward_pre_hook(_rounds_inputs(inputs)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, original in zip(modules, originals, strict=True):
            module.weight = original


@contextlib.contextmanager
def replaced(modules: list["torch.nn.Module"], weights: "list[torch.Tensor]") -> Iterator[None]:
    """Within the block, these modules have other weights; weights tied to them have not."""
    import torch

    originals: list[Any] = [module.weight for module in modules]
    try:
        for module, weight in zip(modules, weights, strict=True):
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            module.weight = original


def _rounds_inputs(arguments: Any) -> Any:
    """A hook that rounds a layer's inputs as compressed-tensors does when it computes.

    NVFP4's scale of all inputs, which a checkpoint has from its calibration text, is that of the
    text at hand.
    """
    rounds = _rounds(arguments)

    def hook(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (rounds(given[0]), *given[1:])

    return hook


def _rounds(arguments: Any) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Rounds inputs to the grid of some arguments."""
    from compressed_tensors.quantization import QuantizationStrategy, fake_quantize
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp, generate_gparam

    def rounds(first: "torch.Tensor") -> "torch.Tensor":
        if not first.numel():
            return first
        # Of tokens without windows the library would make one scale for all.
        value = first if first.dim() > 2 else first[None]
        overall = None
        if arguments.strategy == QuantizationStrategy.TENSOR_GROUP:
            overall = generate_gparam(value.min().reshape(1), value.max().reshape(1))
        scale, zero_point = compute_dynamic_scales_and_zp(
            value=value, args=arguments, module=None, global_scale=overall
        )
        found = fake_quantize(value, scale, zero_point, arguments, global_scale=overall)
        shaped: torch.Tensor = found.reshape(first.shape)
        return shaped

    return rounds
