"""Times a checkpoint in an engine, interleaved with the unquantized model if asked."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.config.schema.bench import Interleave
from runner.data.models.tensors import report_tensors
from runner.data.models.weights import weight_file_bytes
from runner.engines.base import LoadedModel
from runner.engines.instruments.driver import GpuReading, held_by, read_gpus
from runner.engines.instruments.energy import EnergyMeter
from runner.engines.instruments.memory import (
    control_group_memory,
    process_memory_bytes,
    reset_peak_memory,
)
from runner.engines.instruments.turns import Repetitions, Stopwatch, no_room_for
from runner.engines.loading import load
from runner.evaluation.metrics.speed import BatchMemory, batch_result, in_turns
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.bench import BenchRequest, BenchResult
from runner.util.processes import descendants


def measure(request: BenchRequest, context: StageContext) -> BenchResult:
    """Load on the clock, warm up, then measure; in turns with the unquantized model if asked.

    Memory is the subject's: it is read before the unquantized model comes, once every batch
    size was warmed up.
    """
    bench, sizes = request.load, request.load.batch_sizes
    ticks = _Ticks(_repetitions(request), context)
    ticks.begin("loading the checkpoint")
    before = process_memory_bytes().resident
    unused = [] if request.subject.device == "cpu" else read_gpus()
    start = time.perf_counter()
    model = load(request.subject, context.threads)
    load_seconds = time.perf_counter() - start
    after = process_memory_bytes()
    watch = Stopwatch(bench, EnergyMeter(request.subject.device), ticks.tick)
    footprint = model.footprint()
    repetitions: dict[int, Repetitions] = {}
    memory: dict[int, BatchMemory] = {}
    for size in sizes:
        reset_peak_memory()
        model.begin_device_peak()
        watch.warm_up(model, size, least=0 if request.against is None else 1)
        if request.against is None:
            repetitions[size] = watch.alone(model, size)
        memory[size] = _memory(model, after.resident, size, request, unused)
    result = BenchResult(
        engine=request.subject.engine.name,
        device=request.subject.device,
        dtype=request.subject.dtype,
        prompt_tokens=bench.prompt_tokens,
        new_tokens=bench.new_tokens,
        load_seconds=load_seconds,
        checkpoint_bytes=weight_file_bytes(request.subject.checkpoint),
        checkpoint=report_tensors(request.subject.checkpoint),
        resident_memory_bytes=after.resident - before,
        peak_memory_bytes=max(after.peak, *(one.peak for one in memory.values())),
        device_peak_memory_bytes=_most_needed(memory.values()),
        control_group=control_group_memory(),
        footprint=footprint,
        kv_cache_bytes_per_token_measured=model.measured_kv_cache_bytes_per_token(),
        limits=request.limits,
        batches=[],
        in_turns=[],
        not_in_turns=request.not_in_turns,
    )
    if request.against is not None:
        work = max(0, result.peak_memory_bytes - after.resident)
        baseline, result.not_in_turns = _beside(request, work, context.threads)
        if baseline is None:
            repetitions = {size: watch.alone(model, size) for size in sizes}
        else:
            for size in sizes:
                watch.warm_up(baseline, size)
                # It went cold meanwhile: without this its first token took twice as long.
                watch.warm_up(model, size)
                repetitions[size], opposite = watch.in_turns(model, baseline, size)
                result.in_turns.append(in_turns(repetitions[size].timings, opposite.timings, size))
            baseline.close()
    result.batches = [
        batch_result(
            repetitions[size].timings,
            batch_size=size,
            prompt_tokens=bench.prompt_tokens,
            new_tokens=bench.new_tokens,
            footprint=footprint,
            work=request.work,
            arithmetic=request.arithmetic,
            limits=request.limits,
            memory=memory[size],
            energy=repetitions[size].whole_energy,
        )
        for size in sizes
    ]
    model.close()
    return result


@dataclass
class _Ticks:
    """Progress, a repetition at a time."""

    total: int
    context: StageContext
    done: int = 0

    def begin(self, what: str) -> None:
        """Nothing is done yet."""
        self.context.progress(0, self.total, what)

    def tick(self, what: str) -> None:
        """Another repetition is over."""
        self.done = min(self.done + 1, self.total)
        self.context.progress(self.done, self.total, what)


def _repetitions(request: BenchRequest) -> int:
    bench = request.load
    each = bench.warmups + bench.repetitions
    if request.against is not None:
        each = max(1, bench.warmups) + 2 * each
    return each * len(bench.batch_sizes)


def _beside(
    request: BenchRequest, work_bytes: int, threads: int
) -> tuple[LoadedModel | None, str | None]:
    """The unquantized model loaded beside the subject, or why it is not."""
    assert request.against is not None
    insists = request.load.interleave is Interleave.always
    if not insists and (reason := no_room_for(request.against, work_bytes)):
        return None, reason
    try:
        return load(request.against, threads), None
    except Exception as error:
        if insists:
            raise
        # It was loaded alone before: what fails here is having both.
        told = (str(error).splitlines() or [""])[0]
        return None, (
            f"the unquantized model could not be loaded beside the recipe: {type(error).__name__}: "
            f"{told}"
        )


def _memory(
    model: LoadedModel,
    resident_bytes: int,
    batch_size: int,
    request: BenchRequest,
    unused: Sequence[GpuReading],
) -> BatchMemory:
    """Since the peaks were reset.

    Args:
        model: What generated meanwhile.
        resident_bytes: Of the process once the model was loaded.
        batch_size: Sequences at once.
        request: The lengths, and where it computes.
        unused: What the driver said of the GPUs before this process used them.
    """
    peak = process_memory_bytes().peak
    a_token = model.measured_kv_cache_bytes_per_token()
    cache = activations = None
    if a_token is not None:
        tokens = request.load.prompt_tokens + request.load.new_tokens - 1
        cache = round(a_token * tokens * batch_size)
        if request.subject.device == "cpu" and not model.reserves_kv_cache:
            activations = max(0, peak - resident_bytes - cache)
    if request.subject.device == "cpu":
        return BatchMemory(peak, cache, activations)
    device, own = model.device_memory(), os.getpid()
    return BatchMemory(
        peak,
        cache,
        None if device is None else device.activations,
        device,
        held_by([own, *descendants(own)], unused, read_gpus()),
    )


def _most_needed(memory: Iterable[BatchMemory]) -> int | None:
    """Of the GPUs; ``None`` unless it is known of every batch size."""
    device = [one.device for one in memory]
    told = [one.needed for one in device if one is not None]
    return max(told) if len(told) == len(device) else None
