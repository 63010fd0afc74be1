"""Speed of one batch size from clock readings, and what part of a device's limits it uses."""

from dataclasses import dataclass, field

from runner.engines.base import DeviceMemory, Footprint, GenerationTiming
from runner.engines.instruments.driver import Held
from runner.engines.instruments.energy import Energy
from runner.evaluation.metrics.flops import ForwardWork
from runner.evaluation.metrics.noise import Comparison, compare, relative_noise
from runner.evaluation.metrics.statistics import Summary, summarise

_OUTLIER_DEVIATIONS = 5.0
_DEVIATIONS_PER_MAD = 1.4826  # of a normal distribution


@dataclass
class Limits:
    """What a device can do at most, measured or published; all together that compute at once."""

    source: str
    """``measured``, or the name of the device in the hardware table."""
    bandwidth_bytes_per_second: float | None
    peak_teraflops: dict[str, float] = field(default_factory=dict)
    """Dense matrix products by format (fp32, bf16, fp16, int8, …)."""
    devices: int = 1
    """How many compute at once: each limit is so many times one device's."""


@dataclass
class Utilization:
    """Parts of a device's limits that were used; ``None`` where the limit is not known."""

    limits: str
    """``measured``, or the name of a device in the hardware table."""
    memory_bandwidth: float | None
    """Bytes of weights and KV cache read for a decode step, over its time and the bandwidth
    (MBU)."""
    prefill_flops: float | None
    """Operations of the prefill, over its time and the peak of ``arithmetic`` (MFU)."""
    decode_flops: float | None


@dataclass
class BatchMemory:
    """Where the worker's memory went at one batch size, in bytes."""

    peak: int
    """Most resident memory of the process while this batch size was measured: none of a GPU's."""
    kv_cache: int | None
    """Keys and values at the end of a repetition, as the engine holds them."""
    activations: int | None
    """What the peak has over the loaded model and the KV cache: activations and workspace. On a GPU
    that of ``device``; ``None`` on a CPU where the cache is set aside at loading."""
    device: DeviceMemory | None = None
    """Of the GPUs in use; ``None`` on a CPU, and where the engine does not tell."""
    held: Held | None = None
    """What the engine's processes hold of the GPUs by the driver's account, at the end of the
    repetitions: all of ``device``, what is set aside, and CUDA's own."""


@dataclass
class BatchResult:
    """Measurements at one batch size. Throughputs count the whole batch."""

    batch_size: int
    prefill_tokens_per_second: Summary
    time_to_first_token_seconds: Summary
    inter_token_latency_seconds: Summary
    """Every step of every repetition."""
    inter_token_outliers: int
    """Steps beyond the median by five robust standard deviations. They are kept."""
    time_per_output_token_seconds: Summary
    """A repetition each: time after the first token over the number of tokens after it."""
    request_latency_seconds: Summary
    """From handing over the prompts to having the last token, a repetition each."""
    decode_tokens_per_second: Summary
    decode_noise: float | None
    """Half of the 95% interval of the mean over repetitions, relative to it."""
    memory_bandwidth_utilization: float | None
    """That of ``utilization`` against the measured limits."""
    arithmetic: str
    """Format whose peak the operations are held against."""
    utilization: list[Utilization]
    memory: BatchMemory
    energy: Energy | None
    """Of all measured repetitions; ``None`` where the machine exposes no counter."""
    energy_joules_per_token: float | None
    """Over new tokens; the prefill's share is in it."""


@dataclass
class InTurns:
    """The recipe against the unquantized model, repetitions taken in turns: A B A B."""

    batch_size: int
    decode_tokens_per_second: Summary
    baseline_decode_tokens_per_second: Summary
    decode: Comparison
    time_to_first_token: Comparison


def decode_rates(timings: list[GenerationTiming], batch_size: int) -> list[float]:
    """Tokens per second after the first token, of each repetition."""
    return [
        batch_size * len(timing.inter_token_seconds) / sum(timing.inter_token_seconds)
        for timing in timings
    ]


def batch_result(
    timings: list[GenerationTiming],
    *,
    batch_size: int,
    prompt_tokens: int,
    new_tokens: int,
    footprint: Footprint,
    work: ForwardWork | None,
    arithmetic: str,
    limits: list[Limits],
    memory: BatchMemory,
    energy: Energy | None,
) -> BatchResult:
    """Summaries of measured repetitions. No sample is dropped."""
    first = [timing.time_to_first_token_seconds for timing in timings]
    steps = [seconds for timing in timings for seconds in timing.inter_token_seconds]
    rest = [sum(timing.inter_token_seconds) for timing in timings]
    decode = decode_rates(timings, batch_size)
    latency = summarise(steps)
    context = prompt_tokens + new_tokens / 2
    streamed = (
        footprint.streamed_bytes(batch_size)
        + batch_size * context * footprint.kv_cache_bytes_per_token
    )
    prefill_seconds = summarise(first).mean
    used = [
        Utilization(
            limits=limit.source,
            memory_bandwidth=_part(streamed, latency.mean, limit.bandwidth_bytes_per_second),
            prefill_flops=_flops_part(
                work.prefill_flops(batch_size, prompt_tokens) if work else None,
                prefill_seconds, limit, arithmetic,
            ),
            decode_flops=_flops_part(
                work.decode_flops(batch_size, context) if work else None,
                latency.mean, limit, arithmetic,
            ),
        )
        for limit in limits
    ]  # fmt: skip
    tokens = batch_size * new_tokens * len(timings)
    return BatchResult(
        batch_size=batch_size,
        prefill_tokens_per_second=summarise([batch_size * prompt_tokens / s for s in first]),
        time_to_first_token_seconds=summarise(first),
        inter_token_latency_seconds=latency,
        inter_token_outliers=outliers(steps),
        time_per_output_token_seconds=summarise([s / (new_tokens - 1) for s in rest]),
        request_latency_seconds=summarise([a + b for a, b in zip(first, rest, strict=True)]),
        decode_tokens_per_second=summarise(decode),
        decode_noise=relative_noise(decode),
        memory_bandwidth_utilization=next(
            (u.memory_bandwidth for u in used if u.limits == "measured"), None
        ),
        arithmetic=arithmetic,
        utilization=used,
        memory=memory,
        energy=energy,
        energy_joules_per_token=energy.joules / tokens if energy else None,
    )


def in_turns(
    timings: list[GenerationTiming], baseline: list[GenerationTiming], batch_size: int
) -> InTurns:
    """Compare repetitions that were taken in turns, pair by pair."""
    one, other = decode_rates(timings, batch_size), decode_rates(baseline, batch_size)
    return InTurns(
        batch_size=batch_size,
        decode_tokens_per_second=summarise(one),
        baseline_decode_tokens_per_second=summarise(other),
        decode=compare(one, other, paired=True),
        time_to_first_token=compare(
            [timing.time_to_first_token_seconds for timing in timings],
            [timing.time_to_first_token_seconds for timing in baseline],
            paired=True,
        ),
    )


def outliers(samples: list[float]) -> int:
    """How many samples exceed the median by five robust standard deviations (from the MAD)."""
    import numpy as np

    values = np.asarray(samples, np.float64)
    median = np.median(values)
    deviation = _DEVIATIONS_PER_MAD * np.median(np.abs(values - median))
    return int((values > median + _OUTLIER_DEVIATIONS * deviation).sum()) if deviation else 0


def _part(amount: float, seconds: float, limit_per_second: float | None) -> float | None:
    return amount / seconds / limit_per_second if limit_per_second else None


def _flops_part(
    flops: float | None, seconds: float, limits: Limits, arithmetic: str
) -> float | None:
    peak = limits.peak_teraflops.get(arithmetic)
    return flops / seconds / (peak * 1e12) if flops and peak else None
