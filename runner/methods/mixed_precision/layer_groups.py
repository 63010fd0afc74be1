"""Units of rounding: linear layers, alone or in groups."""

import re
from dataclasses import dataclass, field

from runner.config.schema.sensitivity import LayerGranularity
from runner.data.models.expert_names import expert_name

FUSED = {
    "q/k/v_proj": ("q_proj", "k_proj", "v_proj"),
    "gate/up_proj": ("gate_proj", "up_proj"),
    "w1/w3": ("w1", "w3"),
}
"""Layers that vLLM and others multiply as one matrix, which therefore share a number format."""
_BLOCK = re.compile(r"\.(\d+)\.")


@dataclass
class Unit:
    """Layers that are rounded together."""

    name: str
    kind: str
    """Last part of the layers' names, such as ``q_proj`` or ``q/k/v_proj``; or ``experts``, which
    are all of a block's, or ``block``."""
    block: int | None
    """Number of the decoder block; ``None`` for embedding and head, and for whole kinds."""
    layers: list[str] = field(default_factory=list)
    weights: int = 0
    """Weights in all of the layers."""


def units_of(
    layers: dict[str, int], outside: dict[str, int], grain: LayerGranularity
) -> list[Unit]:
    """Group a model's layers.

    Args:
        layers: Linear layers of the decoder's blocks, by name, with their numbers of weights.
        outside: The embedding and the head, likewise; each is a unit of its own.
        grain: What belongs together.
    """
    units: dict[str, Unit] = {}
    for name, weights in layers.items():
        unit = _unit_for(name, grain)
        unit = units.setdefault(unit.name, unit)
        unit.layers.append(name)
        unit.weights += weights
    ends = [Unit(name, _last(name), None, [name], weights) for name, weights in outside.items()]
    return [*ends[:1], *units.values(), *ends[1:]]


def with_fused(names: set[str], layers: list[str]) -> set[str]:
    """The names and every layer that an engine fuses with one of them."""
    groups: dict[str, set[str]] = {}
    for layer in layers:
        groups.setdefault(_unit_for(layer, LayerGranularity.fused).name, set()).add(layer)
    return set().union(*(group for group in groups.values() if group & names), set())


def matching(patterns: list[str], layers: list[str]) -> set[str]:
    """Layers that a pattern means: a whole name, its last parts, or ``re:`` and an expression."""
    return {layer for layer in layers if any(_means(pattern, layer) for pattern in patterns)}


def _means(pattern: str, layer: str) -> bool:
    if pattern.startswith("re:"):
        return re.match(pattern[3:], layer) is not None
    return layer == pattern or layer.endswith(f".{pattern}")


def _unit_for(name: str, grain: LayerGranularity) -> Unit:
    match = _BLOCK.search(name)
    block = int(match.group(1)) if match else None
    # vLLM asks for one scheme of all matrices of a block's experts (get_moe_method).
    expert = expert_name(name)
    last = "experts" if expert else _last(name)
    if grain is LayerGranularity.kind:
        return Unit(last, last, None)
    if grain is LayerGranularity.block and match:
        return Unit(name[: match.end() - 1], "block", block)
    if expert:
        return Unit(expert.experts, last, block)
    if grain is LayerGranularity.fused:
        stem = name.removesuffix(last)
        for kind, members in FUSED.items():
            if last in members:
                return Unit(stem + kind, kind, block)
    return Unit(name, last, block)


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]
