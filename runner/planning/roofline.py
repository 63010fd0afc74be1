"""Times from bytes, operations and a device's limits (roofline, Williams et al. 2009)."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

from runner.config.schema.hardware import Hardware
from runner.planning.formats import Format
from runner.planning.model_shape import Shape

_SIXTEEN = ("bf16", "fp16")


@dataclass(frozen=True)
class PeakRates:
    """What one device does at best."""

    bytes_per_second: float
    operations_per_second: float
    """Of the arithmetic really used."""
    arithmetic: str


def arithmetic_used(fmt: Format, hardware: Hardware) -> str | None:
    """The matrix format that products run in on a device; ``None`` when it has none at all.

    Weights of few bits are unpacked and multiplied in 16 bits. What has no units of its own
    (fp8 before Ada and Hopper, fp4 before Blackwell) falls back to 16 bits as well.
    """
    native, peak = hardware.native_formats, hardware.peak_teraflops
    if fmt.arithmetic in native and fmt.arithmetic in peak:
        return fmt.arithmetic
    if fmt.arithmetic == "fp32" and "fp32" in peak:
        return "fp32"
    for name in (*_SIXTEEN, "fp32"):
        if name in peak:
            return name
    return None


def limits_of(fmt: Format, hardware: Hardware) -> PeakRates | None:
    """A device's limits for a format; ``None`` when the table lacks them."""
    arithmetic = arithmetic_used(fmt, hardware)
    if arithmetic is None or hardware.memory_bandwidth_gigabytes_per_second is None:
        return None
    return PeakRates(
        bytes_per_second=hardware.memory_bandwidth_gigabytes_per_second * 1e9,
        operations_per_second=hardware.peak_teraflops[arithmetic] * 1e12,
        arithmetic=arithmetic,
    )


class Step(NamedTuple):
    """One decode step: how many sequences, how long, cached in how many bytes a number."""

    batch: float
    context: int
    kv_number_bytes: float = 2.0
    devices: int = 1


class DeviceWork(NamedTuple):
    """What one device has to do in one forward pass."""

    weight_bytes: float
    cache_bytes: float
    operations: float

    @property
    def streamed_bytes(self) -> float:
        """Everything that comes from memory."""
        return self.weight_bytes + self.cache_bytes


def decode_work(shape: Shape, fmt: Format, step: Step) -> DeviceWork:
    """Work of each device for one token of each of a batch's sequences.

    Pope et al. 2022 (arXiv 2211.05102): weights once, every sequence's KV cache once;
    2 operations a weight and 4 a head's number and earlier token.
    """
    cache, operations = _of_a_sequence(shape, step.context, step.kv_number_bytes, step.devices)
    weights = fmt.streamed_bytes(shape, step.batch) / step.devices
    return DeviceWork(weights, step.batch * cache, step.batch * operations)


@functools.lru_cache(maxsize=256)
def _of_a_sequence(
    shape: Shape, context: int, kv_number_bytes: float, devices: int
) -> tuple[float, float]:
    """Bytes of cache and operations of one sequence's step on each device."""
    attention = shape.attention_flops(context)
    cache = shape.kv_read_bytes(context, kv_number_bytes, devices)
    return cache, (shape.flops_per_token + attention) / devices


def bound_seconds(work: DeviceWork, limits: PeakRates) -> float:
    """Seconds of a pass at a device's full limits: nothing is faster."""
    return max(
        work.streamed_bytes / limits.bytes_per_second,
        work.operations / limits.operations_per_second,
    )


def crossover_batch(one: DeviceWork, all_weight_bytes: float, limits: PeakRates) -> float | None:
    """Batch at which a decode step turns from memory- to compute-bound; ``None``: at none.

    Both grow with the batch. Where a sequence's KV cache takes longer to read than its arithmetic
    to do, memory stays the limit.

    Args:
        one: A device's work for one sequence.
        all_weight_bytes: A device's weights; of a mixture of experts all are taken as read.
        limits: Its full limits.
    """
    cache = one.cache_bytes / limits.bytes_per_second
    compute = one.operations / limits.operations_per_second
    weights = all_weight_bytes / limits.bytes_per_second
    return None if compute <= cache else weights / (compute - cache)
