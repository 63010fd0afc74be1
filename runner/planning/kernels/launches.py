"""The products of a pass, as engines launch them on each of several devices."""

import functools
from dataclasses import dataclass

from runner.planning.linears import Linear, leads_to_latent
from runner.planning.model_shape import Shape


@dataclass(frozen=True)
class Launch:
    """Equal products: of matrices that engines put into one."""

    linears: tuple[Linear, ...]
    """Those that it is made of."""
    count: float
    """In a pass."""
    inputs: float
    """On each device."""
    outputs: float
    """On each device."""
    copies: float
    """Devices' weights together, over the model's: above 1 where each device has all."""


@functools.lru_cache(maxsize=512)
def launches(shape: Shape, devices: int) -> tuple[Launch, ...]:
    """Of everything but the head and routed experts.

    Queries, keys and values are one product, and so are an MLP's gate and its way up. What leads
    back to the hidden state is split by its inputs, all else by its outputs (Megatron-LM, arXiv
    1909.08053); the way down to a latent vector is whole on every device.
    """
    fused: dict[tuple[str, int, bool, bool], list[Linear]] = {}
    for linear in shape.linears:
        if not linear.routed:
            width = linear.outputs if linear.reduces else linear.inputs
            kind = (linear.part, width, linear.reduces, _is_whole(shape, linear))
            fused.setdefault(kind, []).append(linear)
    found = []
    for (part, width, reduces, whole), linears in fused.items():
        count = _count(shape, part) or min(linear.count for linear in linears)
        other = sum(
            (linear.inputs if reduces else linear.outputs) * linear.count for linear in linears
        )
        each = other / count / (1 if whole else devices)
        inputs, outputs = (each, width) if reduces else (width, each)
        found.append(Launch(tuple(linears), count, inputs, outputs, devices if whole else 1))
    return tuple(found)


def _count(shape: Shape, part: str) -> int:
    """Layers that have a part of a model."""
    return {
        "attention": shape.attention_layers,
        "linear_attention": shape.linear_attention_layers,
        "mamba": shape.linear_attention_layers,
        "mlp": shape.mlp_layers,
        "shared_experts": shape.expert_layers,
        "router": shape.expert_layers,
    }.get(part, 0)


def _is_whole(shape: Shape, linear: Linear) -> bool:
    """Whether every device has all of it: ways down to latent vectors, and routers."""
    return linear.part == "router" or leads_to_latent(shape.architecture, linear)


def reductions(shape: Shape) -> int:
    """Sums over devices in a pass: one after each layer's mixer, one after its MLP or experts."""
    mixers = shape.attention_layers + shape.linear_attention_layers
    return mixers + shape.mlp_layers + shape.expert_layers
