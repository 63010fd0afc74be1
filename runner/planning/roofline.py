"""Times from bytes, operations and a device's limits (roofline, Williams et al. 2009)."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

from runner.config.schema.hardware import Hardware
from runner.planning.efficiency import Efficiency
from runner.planning.formats import Format
from runner.planning.model_shape import Shape

_SIXTEEN = ("bf16", "fp16")
# One point is published: 32 KiB over 8 H200 take 40 us with plain NCCL, two an each layer. A
# ring's latency grows with its length; kernels made for small messages take about half. Over PCIe
# messages go through the host's memory; three times as long is assumed, not published.
_RING_SECONDS_PER_DEVICE = {"low": 2.0e-6, "expected": 3.5e-6, "high": 5.0e-6}
_THROUGH_THE_HOST = 3.0
_ACTIVATION_BYTES = 2


@dataclass(frozen=True)
class PeakRates:
    """What one device does at best."""

    bytes_per_second: float
    operations_per_second: float
    """Of the arithmetic really used."""
    arithmetic: str
    link_bytes_per_second: float | None
    """One direction of the link between devices."""
    through_host: bool = False
    """Devices reach each other over PCIe alone."""


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
    link = hardware.interconnect.gigabytes_per_second
    return PeakRates(
        bytes_per_second=hardware.memory_bandwidth_gigabytes_per_second * 1e9,
        operations_per_second=hardware.peak_teraflops[arithmetic] * 1e12,
        arithmetic=arithmetic,
        # Vendors state both directions together.
        link_bytes_per_second=None if link is None else link * 1e9 / 2,
        through_host=(hardware.interconnect.name or "").startswith("PCIe"),
    )


class StepTime(NamedTuple):
    """Seconds of one forward pass, by what limits it."""

    memory: float
    compute: float
    communication: float
    overhead: float
    overlaps: bool = True

    @property
    def total(self) -> float:
        """Memory and arithmetic overlap: the slower one counts. The rest is added."""
        work = max(self.memory, self.compute) if self.overlaps else self.memory + self.compute
        return work + self.communication + self.overhead


@dataclass(frozen=True)
class Roofline:
    """A model in a format, shared out over ``devices`` of one kind."""

    shape: Shape
    fmt: Format
    limits: PeakRates
    efficiency: Efficiency
    kv_number_bytes: float = 2.0
    devices: int = 1

    def decode(self, batch: float, context: int, case: str = "expected") -> StepTime:
        """Time of one decode step for the whole batch."""
        return self._time(self.decode_work(batch, context), batch, case)

    def prefill(self, prompt: int, case: str = "expected") -> StepTime:
        """Time to go through one prompt.

        2 operations a weight and token; attention sees half of the square, being causal. The
        head works on the last token alone.
        """
        shape = self.shape
        attention = shape.attention_flops_per_pair * prompt * shape.cached_tokens(prompt) / 2
        head = 2 * shape.embedding_weights
        operations = (shape.flops_per_token - head) * prompt + head + attention
        weights = self.fmt.streamed_bytes(shape, prompt)
        work = DeviceWork(weights / self.devices, 0.0, operations / self.devices)
        return self._time(work, prompt, case)

    def decode_work(self, batch: float, context: int) -> "DeviceWork":
        """What one device has to do in a decode step, see the function of that name."""
        return decode_work(
            self.shape,
            self.fmt,
            Step(batch, context, self.kv_number_bytes, self.devices),
        )

    def bound(self, batch: float, context: int) -> float:
        """Seconds of a decode step at the device's full limits: nothing is faster."""
        work, limits = self.decode_work(batch, context), self.limits
        return max(
            work.streamed_bytes / limits.bytes_per_second,
            work.operations / limits.operations_per_second,
        )

    def crossover_batch(self, context: int) -> float | None:
        """Batch at which a decode step turns from memory- to compute-bound; ``None``: at none.

        Both grow with the batch. Where a sequence's KV cache takes longer to read than its
        arithmetic to do, memory stays the limit. Of a mixture of experts all are taken as read.
        """
        limits, efficiency, one = self.limits, self.efficiency, self.decode_work(1, context)
        weights = self.fmt.streamed_bytes(self.shape, 1e9) / self.devices
        weights /= limits.bytes_per_second * efficiency.bandwidth
        cache = one.cache_bytes / (limits.bytes_per_second * efficiency.cache_bandwidth)
        compute = one.operations / (limits.operations_per_second * efficiency.compute)
        return None if compute <= cache else weights / (compute - cache)

    def all_reduce_seconds(self, tokens: float, case: str = "expected") -> float:
        """Two all-reduces a layer: 2·L·(a + 2·(n-1)/n·tokens·hidden·bytes/bandwidth)."""
        n = self.devices
        if n == 1:
            return 0.0
        moved = 2 * (n - 1) / n * tokens * self.shape.hidden * _ACTIVATION_BYTES
        link = self.limits.link_bytes_per_second
        latency = _RING_SECONDS_PER_DEVICE[case] * n
        if self.limits.through_host:
            latency *= _THROUGH_THE_HOST
        return 2 * self.shape.layers * (latency + (moved / link if link else 0.0))

    def _time(self, work: "DeviceWork", tokens: float, case: str) -> StepTime:
        limits, efficiency = self.limits, self.efficiency
        scale = 1.0
        if case != "expected":
            scale = 1 + efficiency.spread if case == "high" else 1 / (1 + efficiency.spread)
        return StepTime(
            # Kernels of attention read the cache, whatever those of the weights can do.
            memory=scale
            / limits.bytes_per_second
            * (
                work.weight_bytes / efficiency.bandwidth
                + work.cache_bytes / efficiency.cache_bandwidth
            ),
            compute=work.operations / (limits.operations_per_second * efficiency.compute) * scale,
            communication=self.all_reduce_seconds(tokens, case),
            overhead=efficiency.overhead_seconds * scale,
            overlaps=efficiency.overlaps,
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
    attention = shape.attention_flops_per_pair * shape.cached_tokens(context)
    cache = shape.kv_bytes(context, kv_number_bytes, devices)
    return cache, (shape.flops_per_token + attention) / devices


def weights_crossover_batch(bits_per_weight: float, limits: PeakRates) -> float:
    """Batch at which reading weights and multiplying by them take equally long, at full rates.

    B* = peak · bits / 8 / (2 · bandwidth): the textbook figure, without KV cache.
    """
    return limits.operations_per_second * bits_per_weight / 8 / (2 * limits.bytes_per_second)
