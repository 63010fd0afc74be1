"""Chooses llama.cpp's type of every matrix of a GGUF file, embeddings among them.

As in ``allocate``, the harms of matrices are taken to add up.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runner.config.schema.bits import Bits
from runner.errors import StageError
from runner.methods.mixed_precision.allocate import Harm
from runner.methods.mixed_precision.knapsack import cheapest, choose_within
from runner.methods.mixed_precision.layer_groups import Unit, matching
from runner.methods.mixed_precision.left_over import tell_left_over, tells_nobody
from runner.methods.recipe import Recipe

_FINER = "more of bits.candidates, or smaller units (sensitivity=linear)"
_DENSE_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
EMBEDDING, HEAD, EXPERTS = "token_embd.weight", "output.weight", "_exps."
"""llama.cpp's names of tensors, and a part of those of experts."""
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


def allocate_types(
    recipe: Recipe,
    found: TypedSensitivities,
    dtype: str,
    share: float = 1.0,
    tell: Callable[[str], None] = tells_nobody,
) -> dict[str, str]:
    """Type of every matrix, by its name in the file.

    Args:
        recipe: What is asked for. ``bits.average`` counts all that a block stores, scales too, over
            all matrices; ``bits.bytes`` counts all tensors, ``bits.active_bytes`` those that a
            token reads.
        found: What each type costs each unit.
        dtype: Torch dtype name of the unquantized model, in which ignored layers stay.
        share: Of ``routed_share``.
        tell: Told why a budget is not used up, if so.

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
    measured = [[(size, harm) for _, size, harm in types[unit.name]] for unit in free]
    budgets, named = [], []
    for budget in _budgets(bits, found, share):
        taken = sum(budget.cost(unit, _BYTES[dtype] * unit.weights) for unit in left)
        options = [
            [(budget.cost(unit, size), harm) for size, harm in sizes]
            for unit, sizes in zip(free, measured, strict=True)
        ]
        if (least := taken + cheapest(options)) > budget.most:
            raise StageError(budget.too_small(least))
        budgets.append((options, budget.most - taken))
        named.append((budget.name, budget.whole, *budgets[-1]))
    chosen = choose_within(budgets)
    tell_left_over(named, chosen, _FINER, tell)
    names = {
        unit.name: types[unit.name][index][0] for unit, index in zip(free, chosen, strict=True)
    }
    names |= {unit.name: _DENSE_TYPES[dtype] for unit in left}
    return {found.tensors[layer]: names[unit.name] for unit in found.units for layer in unit.layers}


@dataclass(frozen=True)
class _Budget:
    """The most that all units' costs may sum to."""

    name: str
    whole: int
    """With what belongs to no unit."""
    most: int
    cost: Callable[[Unit, int], int]
    """Of a unit that takes some bytes."""
    too_small: Callable[[int], str]
    """What to say where the least is more."""


def _budgets(bits: Bits, found: TypedSensitivities, share: float) -> Iterator[_Budget]:
    weights = sum(unit.weights for unit in found.units)
    others = found.other_bytes or 0
    if bits.average is not None:
        yield _Budget(
            f"bits.average={bits.average:g}",
            int(bits.average * weights / 8),
            int(bits.average * weights / 8),
            lambda _, size: size,
            lambda least: (
                f"bits.average={bits.average:g} is too small: the narrowest types that fit "
                f"everywhere make {8 * least / weights:.3f}"
            ),
        )
    if bits.bytes is not None:
        yield _Budget(
            f"bits.bytes={bits.bytes}",
            bits.bytes,
            bits.bytes - others,
            lambda _, size: size,
            lambda least: (
                f"bits.bytes={bits.bytes} is too small: with the narrowest types everywhere the "
                f"file's tensors have {least + others} bytes"
            ),
        )
    if bits.active_bytes is not None:
        has_head = HEAD in found.tensors.values()

        def read(unit: Unit, size: int) -> int:
            names = {found.tensors[layer] for layer in unit.layers}
            if names == {EMBEDDING} and has_head:
                return 0
            return math.ceil(share * size) if all(EXPERTS in name for name in names) else size

        yield _Budget(
            f"bits.active_bytes={bits.active_bytes}",
            bits.active_bytes,
            bits.active_bytes - others,
            read,
            lambda least: (
                f"bits.active_bytes={bits.active_bytes} is too small: with the narrowest types "
                f"everywhere a token reads {least + others} bytes"
            ),
        )
