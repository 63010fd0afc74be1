"""Chooses the widths of a recipe's layers from their measured sensitivities.

The harms of layers are taken to add up: the KL divergence of a model with many rounded layers is
estimated as the sum of those with one. It is a ranking, not a prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runner.config.schema.group_size import GroupSize
from runner.errors import StageError
from runner.methods.mixed_precision.knapsack import cheapest, choose
from runner.methods.mixed_precision.layer_groups import Unit, matching, with_fused
from runner.methods.recipe import Recipe

UNQUANTIZED = 16


class Estimate(Protocol):
    """A mean over windows."""

    @property
    def estimate(self) -> float:
        """Its value."""


class Harm(Protocol):
    """What rounding one unit alone to a width costs."""

    @property
    def unit(self) -> str:
        """Its name."""

    @property
    def num_bits(self) -> int:
        """The width."""

    @property
    def kl_divergence(self) -> Estimate:
        """From the unquantized model, in nats per token."""


class Sensitivities(Protocol):
    """What stage ``sensitivity`` has measured."""

    @property
    def units(self) -> Sequence[Unit]:
        """Layers that are rounded together."""

    @property
    def rows(self) -> Sequence[Harm]:
        """Of every unit at every width."""


@dataclass(frozen=True)
class Matrices:
    """What a model's checkpoint holds."""

    shapes: dict[str, tuple[int, int]]
    """(outputs, inputs) of each layer."""
    bytes: int
    """Of all tensors, unquantized."""


def allocate(recipe: Recipe, found: Sensitivities, matrices: Matrices) -> dict[str, int]:
    """Width of every linear layer in the decoder's blocks; 16 is left as it is.

    Raises:
        StageError: The budget is too small, or ``method.keep`` names no layer.
    """
    method = recipe.method
    units = [unit for unit in found.units if unit.block is not None]
    layers = [layer for unit in units for layer in unit.layers]
    ignored = with_fused(matching(method.ignore, layers), layers)
    kept = kept_layers(recipe, layers)
    free = [unit for unit in units if not set(unit.layers) & (ignored | kept)]
    harms = {(row.unit, row.num_bits): row.kl_divergence.estimate for row in found.rows}
    reference = min(w for _, w in harms) if recipe.bits.is_auto else recipe.bits.weight.num_bits
    ranked = sorted(free, key=lambda unit: harms[unit.name, reference], reverse=True)
    most = ranked[: method.keep_most_sensitive]
    kept |= {layer for unit in most for layer in unit.layers}
    free = [unit for unit in free if unit not in most]
    widths = dict.fromkeys(layers, recipe.bits.weight.num_bits)
    widths |= dict.fromkeys(kept, method.keep_bits or UNQUANTIZED)
    widths |= dict.fromkeys(ignored, UNQUANTIZED)
    if recipe.bits.is_auto:
        fixed = [layer for layer in layers if layer in kept | ignored]
        widths |= _within_budget(
            recipe, free, fixed=fixed, widths=widths, harms=harms, matrices=matrices
        )
    return widths


def kept_layers(recipe: Recipe, layers: list[str]) -> set[str]:
    """Layers that ``method.keep`` names, and those fused with them.

    Raises:
        StageError: A pattern names none.
    """
    for pattern in recipe.method.keep:
        if not matching([pattern], layers):
            raise StageError(
                f"method.keep names {pattern}, but no linear layer in the model's blocks is "
                f"called so; the first are {', '.join(layers[:3])}"
            )
    return with_fused(matching(recipe.method.keep, layers), layers)


def stored_bytes(shape: tuple[int, int], num_bits: int, group_size: GroupSize, sym: bool) -> int:
    """Size of a layer in the packed layout of compressed-tensors: words of 32 bits a row.

    Scales have 16 bits; zero points are packed along the outputs; 16 bytes tell the shape.
    """
    outputs, inputs = shape
    if num_bits >= UNQUANTIZED:
        return 2 * outputs * inputs
    size = group_size.size or inputs
    groups = -(-inputs // size)
    packed = outputs * 4 * -(-inputs * num_bits // 32)
    zero_points = 0 if sym else groups * 4 * -(-outputs * num_bits // 32)
    return packed + 2 * outputs * groups + zero_points + 16


def _within_budget(
    recipe: Recipe,
    free: list[Unit],
    *,
    fixed: list[str],
    widths: dict[str, int],
    harms: dict[tuple[str, int], float],
    matrices: Matrices,
) -> dict[str, int]:
    bits = recipe.bits
    sym = not recipe.method.has_zero_points
    shapes = matrices.shapes

    def cost(layer: str, width: int) -> int:
        if bits.bytes is not None:
            return stored_bytes(shapes[layer], width, recipe.group_size, sym)
        return shapes[layer][0] * shapes[layer][1] * width

    if bits.bytes is not None:
        everything = [*fixed, *(layer for unit in free for layer in unit.layers)]
        budget = bits.bytes - matrices.bytes + sum(cost(one, UNQUANTIZED) for one in everything)
    else:
        weights = sum(outputs * inputs for outputs, inputs in map(shapes.__getitem__, widths))
        budget = int((bits.average or 0.0) * weights)
    budget -= sum(cost(layer, widths[layer]) for layer in fixed)
    candidates = sorted(bits.candidates)
    options = [
        [
            (
                sum(cost(layer, width) for layer in unit.layers),
                harms.get((unit.name, width), 0.0),
            )
            for width in candidates
        ]
        for unit in free
    ]
    if cheapest(options) > budget:
        least = sum(cost(layer, widths[layer]) for layer in fixed) + cheapest(options)
        raise StageError(_too_small(recipe, least, matrices, widths))
    chosen = choose(options, budget)
    return {
        layer: candidates[index]
        for unit, index in zip(free, chosen, strict=True)
        for layer in unit.layers
    }


def _too_small(recipe: Recipe, least: int, matrices: Matrices, widths: dict[str, int]) -> str:
    weights = sum(matrices.shapes[one][0] * matrices.shapes[one][1] for one in widths)
    if recipe.bits.bytes is not None:
        rest = matrices.bytes - UNQUANTIZED // 8 * weights
        return (
            f"bits.bytes={recipe.bits.bytes} is too small: with the fewest bits everywhere the "
            f"checkpoint has {least + rest} bytes, {rest} of them outside the quantized layers"
        )
    return (
        f"bits.average={recipe.bits.average:g} is too small: kept layers and the fewest bits "
        f"everywhere else make {least / weights:.3f}"
    )
