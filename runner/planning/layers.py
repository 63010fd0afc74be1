"""What each layer of a model consists of."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from runner.config.schema.architecture import Architecture, Mixer, Mlp
from runner.errors import UsageError

T = TypeVar("T")
ATTENTION = (Mixer.full, Mixer.sliding, Mixer.sparse, Mixer.compressed, Mixer.parallel)
"""Mixers that have a KV cache."""
LINEAR = (Mixer.gated_delta, Mixer.kda, Mixer.lightning)
STATE_SPACE = (Mixer.mamba, Mixer.mamba1, Mixer.parallel)
# Of each mixer, and of experts: fields without which nothing of it can be counted.
_ATTENDS = ("heads", "head_dim")
_LINEAR = ("key_heads", "value_heads", "key_head_dim", "value_head_dim")
_NEEDED = {
    **dict.fromkeys(ATTENTION, _ATTENDS),
    Mixer.sparse: (*_ATTENDS, "indexer.heads", "indexer.head_dim", "indexer.tokens"),
    Mixer.compressed: (*_ATTENDS, "sliding_window"),
    Mixer.sliding: (*_ATTENDS, "sliding_window"),
    **dict.fromkeys(LINEAR, tuple(f"linear.{name}" for name in _LINEAR)),
    Mixer.convolution: ("linear.convolution",),
    Mixer.mamba: ("mamba.heads", "mamba.head_dim", "mamba.groups", "mamba.state"),
    Mixer.parallel: (*_ATTENDS, "mamba.heads", "mamba.head_dim", "mamba.groups", "mamba.state"),
    Mixer.mamba1: ("mamba.heads", "mamba.state", "mamba.step_rank"),
}
_OF_EXPERTS = ("experts", "experts_per_token")


@dataclass(frozen=True)
class Layer:
    """One layer; equal ones are counted together."""

    mixer: Mixer
    mlp: Mlp
    intermediate: int
    """Inner width of a dense MLP."""
    kv_heads: int
    ratio: int
    """Tokens that are cached as one; 0 where every token is for itself."""
    indexes: bool
    """Has an indexer of its own."""
    keeps_keys: bool
    """Has keys and values of its own."""


def layers_of(architecture: Architecture) -> "Counter[Layer]":
    """How many layers of each kind there are.

    Raises:
        UsageError: A dimension is unknown, or lists by layer are longer than the model.
    """
    _require(architecture, ("layers", "hidden", "vocab"))
    count = architecture.layers or 0
    for name in ("layer_kinds", "mlp_kinds", "layer_intermediates", "layer_kv_heads"):
        if len(getattr(architecture, name)) > count:
            raise UsageError(
                f"model.architecture.{name} has {len(getattr(architecture, name))} entries for "
                f"{count} layers: name one a layer, or the first few of a pattern that repeats"
            )
    layers = tuple(_layer(architecture, number, count) for number in range(count))
    for layer in set(layers):
        _require(architecture, _NEEDED.get(layer.mixer, ()))
        if layer.mlp is Mlp.experts:
            _require(architecture, _OF_EXPERTS)
            if not architecture.intermediate:
                _require(architecture, ("expert_intermediate",))
        elif layer.mlp is Mlp.dense and not layer.intermediate:
            _require(architecture, ("intermediate",))
    return Counter(layers)


def _layer(architecture: Architecture, number: int, count: int) -> Layer:
    mixer = _mixer(architecture, number)
    kv_heads = architecture.kv_heads or architecture.heads or 0
    if mixer is Mixer.sliding:
        kv_heads = architecture.sliding.kv_heads or kv_heads
    indexed = architecture.indexer.layers
    shared = architecture.kv_shared_layers or 0
    intermediate = architecture.intermediate or 0
    return Layer(
        mixer=mixer,
        mlp=_mlp(architecture, number),
        intermediate=of_layer(architecture.layer_intermediates, number, intermediate),
        kv_heads=of_layer(architecture.layer_kv_heads, number, kv_heads),
        ratio=of_layer(architecture.compress_ratios, number, 0),
        indexes=mixer is Mixer.sparse and (indexed is None or number < indexed),
        keeps_keys=number < count - shared,
    )


def _mixer(architecture: Architecture, number: int) -> Mixer:
    if architecture.layer_kinds:
        return of_layer(architecture.layer_kinds, number, Mixer.full)
    if not architecture.sliding_window:
        return Mixer.full
    every = architecture.global_layer_interval
    return Mixer.full if every and (number + 1) % every == 0 else Mixer.sliding


def _mlp(architecture: Architecture, number: int) -> Mlp:
    if architecture.mlp_kinds:
        return of_layer(architecture.mlp_kinds, number, Mlp.dense)
    if not architecture.experts or number < (architecture.dense_layers or 0):
        return Mlp.dense
    return Mlp.experts


def of_layer(values: Sequence[T], number: int, default: T) -> T:
    """A layer's entry of a list that is repeated; the default of an empty one."""
    return values[number % len(values)] if values else default


def held_tokens(layer: Layer, context: int, window: int | None) -> int:
    """Entries of one layer's cache for a sequence of ``context`` tokens."""
    recent = min(context, window) if window else context
    if layer.mixer is Mixer.sliding:
        return recent
    if layer.ratio:
        return recent + math.floor(context / layer.ratio)
    return context


def _require(architecture: Architecture, names: Sequence[str]) -> None:
    missing = [name for name in names if not _value(architecture, name)]
    if missing:
        raise UsageError(
            f"a plan needs the model's dimensions; model.architecture lacks "
            f"{', '.join(missing)}: name them, or a model of conf/model"
        )


def _value(architecture: Architecture, name: str) -> object:
    part, _, inner = name.rpartition(".")
    return getattr(getattr(architecture, part) if part else architecture, inner)
