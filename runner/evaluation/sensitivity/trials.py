"""What is tried: each unit in each format."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.evaluation.sensitivity.probe import Probe
from runner.evaluation.sensitivity.score import Score
from runner.evaluation.sensitivity.typed_layers import TypedLayers
from runner.methods.mixed_precision.layer_groups import Unit
from runner.methods.mixed_precision.rounding import Rounding

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Trial:
    """One unit in one format, all else unquantized."""

    unit: Unit
    format: str
    score: Callable[[], Score]
    stored_bytes: int | None = None
    """What the unit takes in a file, where it was read from one."""


def of_roundings(probe: Probe, roundings: list[Rounding]) -> list[Trial]:
    """Every unit with every grid."""
    return [
        Trial(unit, rounding.label, functools.partial(probe.score, unit, rounding))
        for unit in probe.units
        for rounding in roundings
    ]


def of_types(probe: Probe, files: list[TypedLayers]) -> list[Trial]:
    """Every unit in every type that all its rows fit."""
    return [
        Trial(
            unit,
            typed.kind,
            functools.partial(_score_typed, probe, unit, typed),
            typed.stored_bytes([unit]),
        )
        for unit in probe.stored_units
        for typed in files
        if typed.has(unit)
    ]


def _score_typed(probe: Probe, unit: Unit, typed: TypedLayers) -> Score:
    # Embedding and head of one unit are one tensor, and the largest.
    read: dict[str, torch.Tensor] = {}
    for layer in unit.layers:
        tensor = typed.names[layer]
        if tensor not in read:
            read[tensor] = typed.weight(layer, probe.original(layer))
    return probe.score_weights(unit, [read[typed.names[layer]] for layer in unit.layers])
