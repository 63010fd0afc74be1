"""Stage ``bench``: speed and memory of a checkpoint in an engine, batch size by batch size."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.config.bench import Bench
from runner.engines.base import Footprint, LoadedModel
from runner.engines.loading import LoadRequest, load
from runner.metrics.memory import process_memory_bytes
from runner.metrics.statistics import Summary, summarise
from runner.metrics.tensors import weight_file_bytes
from runner.worker.job import StageContext


@dataclass
class BenchRequest:
    """A checkpoint, an engine and the load to put on it."""

    subject: LoadRequest
    load: Bench
    bandwidth_bytes_per_second: float | None
    """Measured memory bandwidth of the device; ``None`` when it was not measured."""


@dataclass
class BatchResult:
    """Measurements at one batch size. Throughputs count the whole batch."""

    batch_size: int
    prefill_tokens_per_second: Summary
    time_to_first_token_seconds: Summary
    inter_token_latency_seconds: Summary
    decode_tokens_per_second: Summary
    memory_bandwidth_utilization: float | None
    """Bytes of weights and KV cache read a second, as a fraction of the measured bandwidth."""


@dataclass
class BenchResult:
    """Speed and memory of one checkpoint."""

    engine: str
    device: str
    dtype: str
    prompt_tokens: int
    new_tokens: int
    load_seconds: float
    checkpoint_bytes: int
    resident_memory_bytes: int
    """What loading the model added to the process's resident memory."""
    peak_memory_bytes: int
    """Most resident memory of the process, imported libraries included."""
    device_peak_memory_bytes: int | None
    """Most accelerator memory allocated; ``None`` on a CPU."""
    footprint: Footprint
    batches: list[BatchResult]


class BenchStage:
    """Measures speed and memory."""

    name = "bench"
    schema_version = 1
    request = BenchRequest
    result = BenchResult

    def run(self, request: BenchRequest, context: StageContext) -> BenchResult:
        """Load on the clock, then warm up and measure every batch size."""
        steps = len(request.load.batch_sizes) * (request.load.warmups + request.load.repetitions)
        context.progress(0, steps, "loading the checkpoint")
        before = process_memory_bytes().resident
        start = time.perf_counter()
        model = load(request.subject, context.threads)
        load_seconds = time.perf_counter() - start
        resident = process_memory_bytes().resident - before
        footprint = model.footprint()
        done = 0

        def tick(what: str) -> None:
            nonlocal done
            done += 1
            context.progress(done, steps, what)

        batches = [
            _measure(model, size, request, footprint, tick) for size in request.load.batch_sizes
        ]
        result = BenchResult(
            engine=request.subject.engine["name"],
            device=request.subject.device,
            dtype=request.subject.dtype,
            prompt_tokens=request.load.prompt_tokens,
            new_tokens=request.load.new_tokens,
            load_seconds=load_seconds,
            checkpoint_bytes=weight_file_bytes(request.subject.checkpoint),
            resident_memory_bytes=resident,
            peak_memory_bytes=process_memory_bytes().peak,
            device_peak_memory_bytes=model.device_memory_peak_bytes(),
            footprint=footprint,
            batches=batches,
        )
        model.close()
        return result


def _measure(
    model: LoadedModel,
    batch_size: int,
    request: BenchRequest,
    footprint: Footprint,
    tick: Callable[[str], None],
) -> BatchResult:
    timings = []
    for repetition in range(request.load.warmups + request.load.repetitions):
        timing = model.generate(batch_size, request.load.prompt_tokens, request.load.new_tokens)
        if repetition >= request.load.warmups:
            timings.append(timing)
        tick(f"generating, batch {batch_size}")
    first = [timing.time_to_first_token_seconds for timing in timings]
    latencies = [seconds for timing in timings for seconds in timing.inter_token_seconds]
    decode = [
        batch_size * len(timing.inter_token_seconds) / sum(timing.inter_token_seconds)
        for timing in timings
    ]
    latency = summarise(latencies)
    utilization = None
    if request.bandwidth_bytes_per_second is not None:
        context_tokens = request.load.prompt_tokens + request.load.new_tokens / 2
        cache = batch_size * context_tokens * footprint.kv_cache_bytes_per_token
        read = footprint.streamed_bytes_per_step + cache
        utilization = read / latency.mean / request.bandwidth_bytes_per_second
    return BatchResult(
        batch_size=batch_size,
        prefill_tokens_per_second=summarise(
            [batch_size * request.load.prompt_tokens / seconds for seconds in first]
        ),
        time_to_first_token_seconds=summarise(first),
        inter_token_latency_seconds=latency,
        decode_tokens_per_second=summarise(decode),
        memory_bandwidth_utilization=utilization,
    )


STAGE = BenchStage()
