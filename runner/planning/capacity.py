"""How many tokens and sequences an option holds, or why it does not fit."""

from collections.abc import Iterator

from runner.config.schema.hardware import Hardware
from runner.config.schema.plan import Plan
from runner.planning.formats import Format
from runner.planning.model_shape import Shape
from runner.planning.option import Option
from runner.planning.room import Devices, Room, Step, kv_room
from runner.planning.room_rules import Rules

_SHOWN_OF_UNKNOWN = 0.92
"""Of a device's memory, in GiB for every GB sold, where what it shows is not in the table."""
_STATE_NUMBER_BYTES = 2
_NAMED = 0.05e9
"""Parts of a device's memory below it are not worth a word."""


def memory_bytes(device: Hardware) -> float | None:
    """Memory that programs see on a device, in bytes."""
    if device.visible_memory_gibibytes is not None:
        return device.visible_memory_gibibytes * 2**30
    if device.memory_gigabytes is None:
        return None
    return device.memory_gigabytes * _SHOWN_OF_UNKNOWN * 2**30


def devices_of(device: Hardware, degree: int) -> Devices:
    """A group of devices of one kind, whose memory is known."""
    memory = memory_bytes(device)
    assert memory is not None
    link = device.interconnect.among(degree)
    return Devices(memory, degree, link.has_switch, device.compute_capability)


def add_capacity(
    option: Option,
    shape: Shape,
    fmt: Format,
    device: Hardware,
    *,
    plan: Plan,
    kv_bits: float,
    rules: Rules,
) -> str | None:
    """Add what fits to an option.

    Where memory is short, an engine told to expect fewer sequences at once needs less for logits
    and CUDA graphs: the most of ``plan.max_batch_size``, a quarter of it, and so on, with which a
    batch fits, and a warning that names the flag.

    Args:
        option: Without its capacity.
        shape: Of the model.
        fmt: How the engine holds it.
        device: Whose memory is known.
        plan: What is asked for.
        kv_bits: Of a number in the KV cache.
        rules: Of the engine.

    Returns:
        Why it does not fit; ``None`` if it does.
    """
    devices = devices_of(device, option.tensor_parallel)
    for sequences in _sequences(plan):
        room = kv_room(
            shape,
            fmt,
            devices,
            plan.context_length,
            utilization=plan.memory_utilization,
            number_bytes=kv_bits / 8,
            step=Step(plan.prefill_chunk_tokens, sequences),
            rules=rules,
        )
        # A sequence that is being decoded holds no more than the window, one in prefill does.
        sequence = shape.kv_bytes(plan.context_length, kv_bits / 8, option.tensor_parallel)
        sequence += shape.state_bytes_per_sequence(_STATE_NUMBER_BYTES, option.tensor_parallel)
        _add(option, plan, sequence, room, sequences)
        if option.largest_batch >= plan.concurrency:
            break
    else:
        return _why_not(option, plan, room)
    if sequences < plan.max_batch_size:
        option.warnings.append(
            f"fits if the engine expects at most {sequences} sequences (--max-num-seqs)"
        )
    return None


def _sequences(plan: Plan) -> Iterator[int]:
    """Sequences that an engine can be told to expect, the most first."""
    sequences = plan.max_batch_size
    while sequences > plan.concurrency:
        yield sequences
        sequences //= 4
    yield plan.concurrency


def _add(option: Option, plan: Plan, sequence: float, room: Room, sequences: int) -> None:
    """Args: ``sequence``, its bytes on a device."""
    degree = option.tensor_parallel
    option.memory_bytes_per_device = room.parts
    option.weight_bytes_per_device = room.weights
    option.kv_capacity_bytes = room.kv_bytes.expected * degree
    option.kv_capacity_tokens = int(room.kv_tokens.expected)
    option.kv_tokens = room.kv_tokens
    option.engine_sequences = sequences
    option.largest_batch = max(0, int(room.kv_bytes.expected // sequence))
    if sequences < plan.max_batch_size:
        option.largest_batch = min(option.largest_batch, sequences)


def _why_not(option: Option, plan: Plan, room: Room) -> str:
    if room.kv_bytes.expected <= 0:
        parts = ", ".join(
            f"{size / 1e9:.1f} GB of {name}"
            for name, size in room.parts.items()
            if size >= _NAMED or name == "weights"
        )
        return f"does not fit: {parts} per device, {room.usable / 1e9:.1f} GB usable"
    return (
        f"does not fit: room for {option.kv_capacity_tokens} tokens of KV cache, but "
        f"{plan.concurrency} x {plan.context_length} are needed"
    )
