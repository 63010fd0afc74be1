"""What another format of one unit costs beside the formats that the others were given.

Harms add up while they are small. Where layers have few bits each enlarges the errors of those
before it, and the sum of what each costs alone is too small. So what was chosen by the sum is
rounded as a whole, and each unit then gets the next narrower and the next wider format in turn: the
differences are the harms that the next choice is made by.
"""

from collections.abc import Mapping, Sequence

from runner.config.schema.bits import width_of
from runner.config.schema.layer_format import is_unquantized
from runner.methods.mixed_precision.allocate import Sensitivities, harms_alone, kept_layers
from runner.methods.mixed_precision.layer_groups import Unit, matching, with_fused
from runner.methods.mixed_precision.rounding import rounding_named
from runner.methods.recipe import Recipe

_DENSE_BITS = 16


def chosen_labels(
    recipe: Recipe, units: Sequence[Unit], formats: Mapping[str, str]
) -> dict[str, str]:
    """Labels of the roundings that units in the blocks were given, by their names."""
    return {
        unit.name: rounding_named(recipe, formats[unit.layers[0]])
        for unit in units
        if unit.block is not None
    }


def neighbours(
    recipe: Recipe, found: Sensitivities, chosen: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Units and labels to try: of each unit that may change, one format narrower and one wider.

    Of formats of one width the one that harms the unit least when it is rounded alone counts.
    """
    inner = [unit for unit in found.units if unit.name in chosen]
    layers = [layer for unit in inner for layer in unit.layers]
    fixed = kept_layers(recipe, layers) | with_fused(matching(recipe.method.ignore, layers), layers)
    alone = harms_alone(found)
    tried = []
    for unit in inner:
        if set(unit.layers) & fixed:
            continue
        best: dict[int, str] = {}
        for candidate in recipe.bits.candidates:
            label = rounding_named(recipe, candidate)
            width = _DENSE_BITS if is_unquantized(candidate) else width_of(candidate) or 0
            held = best.get(width)
            if held != chosen[unit.name] and (
                label == chosen[unit.name]
                or held is None
                or alone[unit.name, label] < alone[unit.name, held]
            ):
                best[width] = label
        order = [best[width] for width in sorted(best)]
        if chosen[unit.name] not in order:
            continue
        place = order.index(chosen[unit.name])
        tried += [
            (unit.name, order[one]) for one in (place - 1, place + 1) if 0 <= one < len(order)
        ]
    return tried


def harms_beside(
    chosen: Mapping[str, str], whole: float, changed: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    """What each unit's formats add to the whole; those that were not tried are left out.

    Args:
        chosen: Labels that the whole was measured with, by unit.
        whole: Its KL divergence.
        changed: That of the whole with one unit under another label.
    """
    kept = dict.fromkeys(chosen.items(), 0.0)
    return kept | {change: divergence - whole for change, divergence in changed.items()}
