"""Passes by constants that were fitted to a machine's own runs, instead of kernels' tables."""

from dataclasses import dataclass, replace

from runner.planning.formats import Format
from runner.planning.kernels.constants import NEUTRAL
from runner.planning.kernels.forward import Forward, prefill_operations
from runner.planning.kernels.operators import Attention, Experts, Product
from runner.planning.linears import Linear
from runner.planning.model_shape import Shape

_PLAIN_BITS = 16
_BLOCK = 256


@dataclass(frozen=True)
class StepWork:
    """What a decode step consists of, whatever the machine."""

    read_bytes: float
    """Of numbers that are computed with as they are: weights and KV cache."""
    packed_weights: float
    """Weights that are unpacked first, in each step anew."""
    uneven_packed_weights: float
    """Those of them in rows that are no multiple of 256, which kernels for blocks do not cover."""
    operations: float
    uneven_operations: float
    """With weights in such rows."""
    launches: float
    """Matrices that are multiplied by."""


@dataclass(frozen=True)
class MeasuredConstants:
    """Seconds for each part of a step's work, of all devices at once, and for the step itself.

    Their sum is a pass: on the processors that this is fitted on, small products neither hide all
    reading behind arithmetic nor the reverse.
    """

    seconds_per_byte: float
    seconds_per_packed_weight: float
    seconds_per_uneven_packed_weight: float
    seconds_per_operation: float
    seconds_per_uneven_operation: float
    seconds_per_launch: float
    seconds_per_step: float

    def seconds(self, work: StepWork) -> float:
        """Of one decode step."""
        return (
            self.seconds_per_byte * work.read_bytes
            + self.seconds_per_packed_weight * work.packed_weights
            + self.seconds_per_uneven_packed_weight * work.uneven_packed_weights
            + self.seconds_per_operation * work.operations
            + self.seconds_per_uneven_operation * work.uneven_operations
            + self.seconds_per_launch * work.launches
            + self.seconds_per_step
        )


def step_work(
    shape: Shape, fmt: Format, *, batch: float, context: int, kv_number_bytes: float
) -> StepWork:
    """Work of a decode step of a model as an engine holds it.

    Args:
        shape: The model.
        fmt: How its weights are held while it generates.
        batch: Sequences.
        context: Tokens of each, in the mean.
        kv_number_bytes: Of a number in the KV cache.
    """
    read = batch * shape.kv_read_bytes(context, kv_number_bytes)
    read += 2 * batch * shape.state_bytes_per_sequence(kv_number_bytes)
    packed = {True: 0.0, False: 0.0}
    operations = {True: 0.0, False: 2.0 * batch * shape.embedding_weights}
    launches = 1.0
    for linear in shape.linears:
        share = shape.routed_share_touched(batch) if linear.routed else 1.0
        used = shape.experts_per_token / shape.experts if linear.routed else 1.0
        if _is_packed(fmt, linear):
            packed[_is_uneven(linear)] += share * linear.weights
        else:
            read += share * _plain_bytes(fmt, linear)
        operations[_is_uneven(linear)] += 2 * batch * used * linear.weights
        launches += share * linear.count
    if fmt.head_bits < _PLAIN_BITS:
        packed[False] += shape.embedding_weights
    else:
        read += shape.embedding_weights * fmt.head_bits / 8
    operations[False] += batch * shape.attention_flops(context)
    return StepWork(
        read, packed[False], packed[True], operations[False], operations[True], launches
    )


def _is_uneven(linear: Linear) -> bool:
    return linear.inputs % _BLOCK != 0


def _is_packed(fmt: Format, linear: Linear) -> bool:
    return not linear.kept and fmt.of(linear).weight_bits < _PLAIN_BITS


def _plain_bytes(fmt: Format, linear: Linear) -> float:
    """Of layers that are not packed; narrow ones are of the width that the head is of."""
    bits = fmt.head_bits if linear.kept else fmt.of(linear).weight_bits
    return linear.weights * max(bits, _PLAIN_BITS) / 8


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
    byte, launch = constants.seconds_per_byte, constants.seconds_per_launch
    operation = constants.seconds_per_operation
    dense = [linear for linear in shape.linears if not linear.routed]
    read = shape.kv_read_bytes(context, kv_bits / 8)
    read += 2 * shape.state_bytes_per_sequence(kv_bits / 8)
    table = shape.embedding_weights
    head = byte * table * fmt.head_bits / 8
    if fmt.head_bits < _PLAIN_BITS:
        head = constants.seconds_per_packed_weight * table
    return Forward(
        products=(
            Product(1.0, _held(fmt, dense, constants), _computed(dense, constants), 0.0, 0.0),
        ),
        head=Product(1.0, head, 2 * operation * table, 0.0, 0.0),
        attention=Attention(
            floor_seconds=0.0,
            read_sequence=byte * read + operation * shape.attention_flops(context),
            compute_sequence=0.0,
            prefill_seconds=operation * prefill_operations(shape, prompt),
        ),
        floor_seconds=launch * (1 + sum(linear.count for linear in dense)),
        layers=shape.layers,
        constants=replace(
            NEUTRAL,
            step_seconds=constants.seconds_per_step,
            prefill_seconds=constants.seconds_per_step,
        ),
        experts=_experts(shape, fmt, constants),
    )


def _held(fmt: Format, linears: list[Linear], constants: MeasuredConstants) -> float:
    """Seconds to read, or to unpack, some layers' weights once."""
    seconds = 0.0
    for linear in linears:
        if not _is_packed(fmt, linear):
            seconds += constants.seconds_per_byte * _plain_bytes(fmt, linear)
        elif _is_uneven(linear):
            seconds += constants.seconds_per_uneven_packed_weight * linear.weights
        else:
            seconds += constants.seconds_per_packed_weight * linear.weights
    return seconds


def _computed(linears: list[Linear], constants: MeasuredConstants) -> float:
    """Seconds to multiply one token by some layers' weights."""
    rates = {
        True: constants.seconds_per_uneven_operation,
        False: constants.seconds_per_operation,
    }
    return sum(2 * rates[_is_uneven(linear)] * linear.weights for linear in linears)


def _experts(shape: Shape, fmt: Format, constants: MeasuredConstants) -> Experts | None:
    if not shape.expert_layers:
        return None
    routed = [linear for linear in shape.linears if linear.routed]
    each = shape.expert_layers * shape.experts
    read = _held(fmt, routed, constants)
    launches = constants.seconds_per_launch * sum(linear.count for linear in routed)
    return Experts(
        layers=shape.expert_layers,
        experts=shape.experts,
        per_token=shape.experts_per_token,
        distinct_tokens_share=1.0,
        read_expert=(read + launches) / each,
        read_per_token=shape.experts_per_token * _computed(routed, constants) / each,
        compute_expert=0.0,
        compute_per_token=0.0,
        floor_seconds=0.0,
    )
