"""Passes by constants that were fitted to a machine's own runs, instead of kernels' tables."""

from dataclasses import dataclass, replace

from runner.planning.formats import Format
from runner.planning.kernels.constants import NEUTRAL
from runner.planning.kernels.forward import Forward, prefill_operations
from runner.planning.kernels.operators import Attention, Experts, Product
from runner.planning.model_shape import Shape


@dataclass(frozen=True)
class MeasuredConstants:
    """Seconds for each byte that is read, each operation and each layer, of all devices at once.

    Their sum is a pass: on the processors that this is fitted on, small products neither hide all
    reading behind arithmetic nor the reverse.
    """

    seconds_per_byte: float
    seconds_per_operation: float
    seconds_per_layer: float


def measured_forward(
    shape: Shape,
    fmt: Format,
    constants: MeasuredConstants,
    *,
    kv_bits: float,
    context: int,
    prompt: int,
) -> Forward:
    """A model as an engine holds it, on the machine that the constants were fitted on."""
    byte, operation = constants.seconds_per_byte, constants.seconds_per_operation
    dense = [linear for linear in shape.linears if not linear.routed]
    weights = sum(linear.weights for linear in dense)
    held = sum(16 * one.weights if one.kept else fmt.bits_of(one) for one in dense) / 8
    read = shape.kv_read_bytes(context, kv_bits / 8)
    read += 2 * shape.state_bytes_per_sequence(kv_bits / 8)
    head = shape.embedding_weights
    return Forward(
        products=(Product(1.0, byte * held, 2 * operation * weights, 0.0, 0.0),),
        head=Product(1.0, byte * head * fmt.head_bits / 8, 2 * operation * head, 0.0, 0.0),
        attention=Attention(
            floor_seconds=0.0,
            read_sequence=byte * read + operation * shape.attention_flops(context),
            compute_sequence=0.0,
            prefill_seconds=operation * prefill_operations(shape, prompt),
        ),
        floor_seconds=0.0,
        layers=shape.layers,
        constants=replace(NEUTRAL, layer_seconds=constants.seconds_per_layer),
        experts=_experts(shape, fmt, byte, operation),
    )


def _experts(shape: Shape, fmt: Format, byte: float, operation: float) -> Experts | None:
    if not shape.expert_layers:
        return None
    routed = [linear for linear in shape.linears if linear.routed]
    each = shape.expert_layers * shape.experts
    return Experts(
        layers=shape.expert_layers,
        experts=shape.experts,
        per_token=shape.experts_per_token,
        distinct_tokens_share=1.0,
        read_expert=byte * sum(fmt.bits_of(linear) for linear in routed) / 8 / each,
        read_per_token=2
        * operation
        * shape.experts_per_token
        * sum(linear.weights for linear in routed)
        / each,
        compute_expert=0.0,
        compute_per_token=0.0,
        floor_seconds=0.0,
    )
