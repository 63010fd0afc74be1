"""Chooses llama.cpp's type of every matrix of a GGUF file, embeddings among them.

As in ``allocate``, the harms of matrices are taken to add up.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from runner.errors import StageError
from runner.methods.mixed_precision.allocate import Harm
from runner.methods.mixed_precision.knapsack import cheapest, choose
from runner.methods.mixed_precision.layer_groups import Unit, matching
from runner.methods.recipe import Recipe

_DENSE_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


class StoredHarm(Harm, Protocol):
    """What one type of a unit costs."""

    @property
    def stored_bytes(self) -> int | None:
        """Of the unit's tensors."""


class TypedSensitivities(Protocol):
    """What stage ``sensitivity`` has measured of files of one type each."""

    @property
    def units(self) -> Sequence[Unit]:
        """Matrices that get one type together."""

    @property
    def rows(self) -> Sequence[StoredHarm]:
        """Of every unit in every type that fits it."""

    @property
    def tensors(self) -> Mapping[str, str]:
        """Names in the file, by layer."""

    @property
    def other_bytes(self) -> int | None:
        """Of the file's tensors that belong to no unit."""


def allocate_types(recipe: Recipe, found: TypedSensitivities, dtype: str) -> dict[str, str]:
    """Type of every matrix, by its name in the file.

    Args:
        recipe: What is asked for. ``bits.average`` counts all that a block stores, scales too, over
            all matrices; ``bits.bytes`` counts all tensors.
        found: What each type costs each unit.
        dtype: Torch dtype name of the unquantized model, in which ignored layers stay.

    Raises:
        StageError: The budget is too small, or no type fits a unit.
    """
    bits = recipe.bits
    layers = [layer for unit in found.units for layer in unit.layers]
    ignored = matching(recipe.method.ignore, layers)
    left = [unit for unit in found.units if {*unit.layers} & ignored]
    free = [unit for unit in found.units if unit not in left]
    types: dict[str, list[tuple[str, int, float]]] = {unit.name: [] for unit in found.units}
    for row in found.rows:
        types[row.unit].append((row.rounding, row.stored_bytes or 0, row.kl_divergence.estimate))
    for unit in free:
        if not types[unit.name]:
            raise StageError(
                f"none of bits.candidates fits {unit.name}: add one with blocks of 32 weights, "
                "such as IQ4_NL or Q8_0"
            )
    dense = _BYTES[dtype] * sum(unit.weights for unit in left)
    weights = sum(unit.weights for unit in found.units)
    if bits.bytes is not None:
        budget = bits.bytes - dense - (found.other_bytes or 0)
    else:
        budget = int((bits.average or 0.0) * weights / 8) - dense
    options = [[(size, harm) for _, size, harm in types[unit.name]] for unit in free]
    if (least := cheapest(options)) > budget:
        raise StageError(
            f"bits.bytes={bits.bytes} is too small: with the narrowest types everywhere the file's "
            f"tensors have {least + dense + (found.other_bytes or 0)} bytes"
            if bits.bytes is not None
            else f"bits.average={bits.average:g} is too small: the narrowest types that fit "
            f"everywhere make {8 * (least + dense) / weights:.3f}"
        )
    chosen = choose(options, budget)
    names = {
        unit.name: types[unit.name][index][0] for unit, index in zip(free, chosen, strict=True)
    }
    names |= {unit.name: _DENSE_TYPES[dtype] for unit in left}
    return {found.tensors[layer]: names[unit.name] for unit in found.units for layer in unit.layers}
