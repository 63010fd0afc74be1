"""Chooses the formats of a recipe's layers from their measured sensitivities.

The harms of layers are taken to add up: the KL divergence of a model with many rounded layers is
estimated as the sum of those with one. It is a ranking, not a prediction.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runner.config.schema.bits import width_of
from runner.config.schema.layer_format import UNQUANTIZED
from runner.data.models.expert_names import expert_name
from runner.errors import StageError
from runner.methods.mixed_precision.knapsack import cheapest, choose_within
from runner.methods.mixed_precision.layer_groups import Unit, matching, with_fused
from runner.methods.mixed_precision.left_over import tell_left_over, tells_nobody
from runner.methods.mixed_precision.rounding import rounding_named
from runner.methods.mixed_precision.stored import stored_bytes
from runner.methods.recipe import Recipe

_DENSE_BITS = 16
_FINER = "more of bits.candidates (other widths, or other groups: w4a16-g32 beside 4)"


Harms = Mapping[tuple[str, str], float]
"""KL divergence in nats a token by the name of a unit and the label of its rounding."""


class Estimate(Protocol):
    """A mean over windows."""

    @property
    def estimate(self) -> float:
        """Its value."""


class Harm(Protocol):
    """What rounding one unit alone to a format costs."""

    @property
    def unit(self) -> str:
        """Its name."""

    @property
    def rounding(self) -> str:
        """The format, named as recipes are."""

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
        """Of every unit in every format."""


@dataclass(frozen=True)
class Matrices:
    """What a model's checkpoint holds."""

    shapes: dict[str, tuple[int, int]]
    """(outputs, inputs) of each layer."""
    bytes: int
    """Of all tensors, unquantized."""
    active_bytes: int = 0
    """Of those, what one token reads, as ``bits.active_bytes`` counts; only mixtures need it."""
    routed_share: float = 1.0
    """Part of a layer's routed experts that a token meets."""

    def weights(self, layer: str) -> int:
        """How many a layer has."""
        outputs, inputs = self.shapes[layer]
        return outputs * inputs

    def share(self, layer: str) -> float:
        """The part of a layer that a token reads: of an expert, how often it is met."""
        return self.routed_share if expert_name(layer) else 1.0


class Sizes(Protocol):
    """What layers take in the formats that a method can give them."""

    def stored_bytes(self, layer: str, candidate: str) -> int:
        """Of a layer in a format, with all that belongs to it, in the checkpoint's files."""

    def stored_bits(self, layer: str, candidate: str) -> float:
        """Bits of all of its weights together, as ``bits.average`` counts them."""


@dataclass(frozen=True)
class PackedSizes:
    """Of compressed-tensors, whose sizes follow from a layer's shape."""

    recipe: Recipe
    matrices: Matrices

    def stored_bytes(self, layer: str, candidate: str) -> int:
        """See ``stored``."""
        stored = self.recipe.format_named(candidate)
        sym = not self.recipe.method.has_zero_points
        return stored_bytes(self.matrices.shapes[layer], stored, sym)

    def stored_bits(self, layer: str, candidate: str) -> float:
        """Of the weights themselves: scales and zero points come on top."""
        return self.matrices.weights(layer) * float(width_of(candidate) or _DENSE_BITS)


def allocate(
    recipe: Recipe,
    found: Sensitivities,
    matrices: Matrices,
    sizes: Sizes | None = None,
    tell: Callable[[str], None] = tells_nobody,
) -> dict[str, str]:
    """Format of every linear layer in the decoder's blocks, named as ``bits.candidates`` are.

    Args:
        recipe: What is asked for.
        found: What rounding each unit costs, under the labels of ``rounding_named``.
        matrices: Of the unquantized model.
        sizes: Of layers in each format; by default those of compressed-tensors.
        tell: Told why a budget is not used up, if so.

    Raises:
        StageError: The budget is too small, or ``method.keep`` names no layer.
    """
    method = recipe.method
    units = [unit for unit in found.units if unit.block is not None]
    layers = [layer for unit in units for layer in unit.layers]
    ignored = with_fused(matching(method.ignore, layers), layers)
    kept = kept_layers(recipe, layers)
    free = [unit for unit in units if not set(unit.layers) & (ignored | kept)]
    harms = harms_alone(found)
    own = recipe.own_format.label
    reference = rounding_named(recipe, _narrowest(recipe) if recipe.bits.is_auto else own)
    ranked = sorted(free, key=lambda unit: harms[unit.name, reference], reverse=True)
    most = ranked[: method.keep_most_sensitive]
    kept |= {layer for unit in most for layer in unit.layers}
    free = [unit for unit in free if unit not in most]
    formats = dict.fromkeys(layers, own)
    formats |= dict.fromkeys(kept, str(method.keep_bits or UNQUANTIZED))
    formats |= dict.fromkeys(ignored, UNQUANTIZED)
    if recipe.bits.is_auto:
        fixed = {layer: formats[layer] for layer in layers if layer in kept | ignored}
        sizes = sizes or PackedSizes(recipe, matrices)
        formats |= _within_budget(
            recipe, free, fixed=fixed, harms=harms, matrices=matrices, sizes=sizes, tell=tell
        )
    return formats


def harms_alone(found: Sensitivities) -> dict[tuple[str, str], float]:
    """What each unit's rounding costs by itself, and that leaving it as it is costs nothing."""
    measured = {(row.unit, row.rounding): row.kl_divergence.estimate for row in found.rows}
    return {(unit.name, UNQUANTIZED): 0.0 for unit in found.units} | measured


def _narrowest(recipe: Recipe) -> str:
    """The candidate of the fewest bits."""
    return min(recipe.bits.candidates, key=lambda name: width_of(name) or _DENSE_BITS)


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


def _within_budget(
    recipe: Recipe,
    free: list[Unit],
    *,
    fixed: dict[str, str],
    harms: Harms,
    matrices: Matrices,
    sizes: Sizes,
    tell: Callable[[str], None],
) -> dict[str, str]:
    candidates = list(dict.fromkeys(recipe.bits.candidates))
    labels = {name: rounding_named(recipe, name) for name in candidates}
    harm = [[harms[unit.name, labels[one]] for one in candidates] for unit in free]
    layers = [*fixed, *(layer for unit in free for layer in unit.layers)]
    budgets, named = [], []
    for budget in _budgets(recipe, layers, matrices, sizes):
        taken = sum(budget.cost([layer], one) for layer, one in fixed.items())
        costs = [[budget.cost(unit.layers, one) for one in candidates] for unit in free]
        options = [list(zip(*pair, strict=True)) for pair in zip(costs, harm, strict=True)]
        if taken + cheapest(options) > budget.most:
            raise StageError(budget.too_small(taken + cheapest(options)))
        budgets.append((options, budget.most - taken))
        named.append((budget.name, budget.whole, *budgets[-1]))
    chosen = choose_within(budgets)
    tell_left_over(named, chosen, _FINER, tell)
    return {
        layer: candidates[index]
        for unit, index in zip(free, chosen, strict=True)
        for layer in unit.layers
    }


@dataclass(frozen=True)
class _Budget:
    """The most that all layers' costs may sum to."""

    name: str
    whole: int
    """With what is outside of the layers."""
    most: int
    cost: Callable[[list[str], str], int]
    """Of layers that have one candidate."""
    too_small: Callable[[int], str]
    """What to say where the least is more."""


def _budgets(
    recipe: Recipe, layers: list[str], matrices: Matrices, sizes: Sizes
) -> Iterator[_Budget]:
    bits = recipe.bits
    weights = sum(map(matrices.weights, layers))

    def stored(layers: list[str], candidate: str) -> int:
        return sum(sizes.stored_bytes(layer, candidate) for layer in layers)

    if bits.average is not None:
        yield _Budget(
            f"bits.average={bits.average:g}",
            int(bits.average * weights),
            int(bits.average * weights),
            lambda layers, name: sum(round(sizes.stored_bits(layer, name)) for layer in layers),
            lambda least: (
                f"bits.average={bits.average:g} is too small: kept layers and the fewest "
                f"bits everywhere else make {least / weights:.3f}"
            ),
        )
    if bits.bytes is not None:
        outside = matrices.bytes - _DENSE_BITS // 8 * weights
        yield _Budget(
            f"bits.bytes={bits.bytes}",
            bits.bytes,
            bits.bytes - outside,
            stored,
            lambda least: (
                f"bits.bytes={bits.bytes} is too small: with the fewest bits everywhere the "
                f"checkpoint has {least + outside} bytes, {outside} of them outside the "
                "quantized layers"
            ),
        )
    if bits.active_bytes is not None:
        dense = sum(
            _DENSE_BITS // 8 * matrices.weights(one) * matrices.share(one) for one in layers
        )
        unmoved = matrices.active_bytes - math.floor(dense)
        yield _Budget(
            f"bits.active_bytes={bits.active_bytes}",
            bits.active_bytes,
            bits.active_bytes - unmoved,
            # Rounded up, so that the sum is never less than what is read.
            lambda layers, name: math.ceil(
                sum(sizes.stored_bytes(one, name) * matrices.share(one) for one in layers)
            ),
            lambda least: (
                f"bits.active_bytes={bits.active_bytes} is too small: with the fewest "
                f"bits everywhere a token reads {least + unmoved} bytes, {unmoved} of them outside "
                "the quantized layers"
            ),
        )
