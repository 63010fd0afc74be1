"""Stage ``bench``: speed and memory of a checkpoint in an engine, batch size by batch size."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.config.bench import Bench
from runner.engines.base import Footprint, GenerationTiming, LoadedModel
from runner.engines.loading import LoadRequest, load
from runner.metrics.energy import EnergyMeter, metered
from runner.metrics.flops import ForwardWork
from runner.metrics.memory import (
    ControlGroupMemory,
    DeviceMemory,
    control_group_memory,
    device_memory,
    process_memory_bytes,
    reset_peak_memory,
)
from runner.metrics.speed import (
    BatchMemory,
    BatchResult,
    InTurns,
    Limits,
    batch_result,
    in_turns,
)
from runner.metrics.tensors import TensorReport, report_tensors
from runner.models.weights import weight_file_bytes
from runner.worker.job import StageContext


@dataclass
class BenchRequest:
    """A checkpoint, an engine and the load to put on it."""

    subject: LoadRequest
    load: Bench
    limits: list[Limits]
    """Of the device: the measured ones, and the published ones where there are any."""
    work: ForwardWork | None
    """The model's arithmetic; ``None`` when its dimensions are not known."""
    arithmetic: str
    """Format whose peak operations are held against."""
    in_turns_with: LoadRequest | None = None
    """The unquantized model, to be measured in turns with the subject."""


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
    checkpoint: TensorReport
    """Tensors of its files by dtype: elements and bytes."""
    resident_memory_bytes: int
    """What loading the model added to the process's resident memory."""
    peak_memory_bytes: int
    """Most resident memory of the process, imported libraries included."""
    device_peak_memory_bytes: int | None
    """Most accelerator memory allocated; ``None`` on a CPU."""
    device_memory: DeviceMemory | None
    control_group: ControlGroupMemory | None
    footprint: Footprint
    kv_cache_bytes_per_token_measured: float | None
    """As the engine held it, beside ``footprint.kv_cache_bytes_per_token``, which is computed from
    the model's dimensions."""
    limits: list[Limits]
    batches: list[BatchResult]
    in_turns: list[InTurns]
    """Against the unquantized model; empty unless ``bench.interleave``."""


class BenchStage:
    """Measures speed and memory."""

    name = "bench"
    schema_version = 2
    request = BenchRequest
    result = BenchResult

    def run(self, request: BenchRequest, context: StageContext) -> BenchResult:
        """Load on the clock, then warm up and measure every batch size."""
        bench = request.load
        passes = 3 if request.in_turns_with else 1
        steps = passes * len(bench.batch_sizes) * (bench.warmups + bench.repetitions)
        context.progress(0, steps, "loading the checkpoint")
        before = process_memory_bytes().resident
        start = time.perf_counter()
        model = load(request.subject, context.threads)
        load_seconds = time.perf_counter() - start
        after = process_memory_bytes()
        done = 0

        def tick(what: str) -> None:
            nonlocal done
            done += 1
            context.progress(done, steps, what)

        subject = _Loaded(
            model, model.footprint(), after.resident, EnergyMeter(request.subject.device)
        )
        batches = [_measure(subject, size, request, tick) for size in bench.batch_sizes]
        result = BenchResult(
            engine=request.subject.engine["name"],
            device=request.subject.device,
            dtype=request.subject.dtype,
            prompt_tokens=bench.prompt_tokens,
            new_tokens=bench.new_tokens,
            load_seconds=load_seconds,
            checkpoint_bytes=weight_file_bytes(request.subject.checkpoint),
            checkpoint=report_tensors(request.subject.checkpoint),
            resident_memory_bytes=after.resident - before,
            peak_memory_bytes=max(after.peak, *(batch.memory.peak for batch in batches)),
            device_peak_memory_bytes=model.device_memory_peak_bytes(),
            device_memory=device_memory(request.subject.device),
            control_group=control_group_memory(),
            footprint=subject.footprint,
            kv_cache_bytes_per_token_measured=model.measured_kv_cache_bytes_per_token(),
            limits=request.limits,
            batches=batches,
            in_turns=[],
        )
        if request.in_turns_with is not None:
            baseline = load(request.in_turns_with, context.threads)
            result.in_turns = [
                _in_turns(model, baseline, n, bench, tick) for n in bench.batch_sizes
            ]
            baseline.close()
        model.close()
        return result


@dataclass
class _Loaded:
    model: LoadedModel
    footprint: Footprint
    resident_bytes: int
    """Of the process once the model was loaded."""
    meter: EnergyMeter


def _measure(
    loaded: _Loaded, batch_size: int, request: BenchRequest, tick: Callable[[str], None]
) -> BatchResult:
    bench = request.load

    def generate() -> GenerationTiming:
        timing = loaded.model.generate(batch_size, bench.prompt_tokens, bench.new_tokens)
        tick(f"generating, batch {batch_size}")
        return timing

    reset_peak_memory()
    for _ in range(bench.warmups):
        generate()
    with metered(loaded.meter) as energy:
        timings = [generate() for _ in range(bench.repetitions)]
    return batch_result(
        timings,
        batch_size=batch_size,
        prompt_tokens=bench.prompt_tokens,
        new_tokens=bench.new_tokens,
        footprint=loaded.footprint,
        work=request.work,
        arithmetic=request.arithmetic,
        limits=request.limits,
        memory=_memory(loaded, batch_size, request),
        energy=energy[0],
    )


def _memory(loaded: _Loaded, batch_size: int, request: BenchRequest) -> BatchMemory:
    peak = process_memory_bytes().peak
    a_token = loaded.model.measured_kv_cache_bytes_per_token()
    cache = activations = None
    if a_token is not None:
        tokens = request.load.prompt_tokens + request.load.new_tokens - 1
        cache = round(a_token * tokens * batch_size)
        if request.subject.device == "cpu" and not loaded.model.reserves_kv_cache:
            activations = max(0, peak - loaded.resident_bytes - cache)
    return BatchMemory(peak, cache, activations)


def _in_turns(
    model: LoadedModel,
    baseline: LoadedModel,
    batch_size: int,
    bench: Bench,
    tick: Callable[[str], None],
) -> InTurns:
    """A repetition of the one, then of the other: what drifts slowly is in both."""
    timings: tuple[list[GenerationTiming], list[GenerationTiming]] = ([], [])
    for repetition in range(bench.warmups + bench.repetitions):
        for of_model, subject in zip(timings, (model, baseline), strict=True):
            timing = subject.generate(batch_size, bench.prompt_tokens, bench.new_tokens)
            if repetition >= bench.warmups:
                of_model.append(timing)
            tick(f"generating in turns, batch {batch_size}")
    return in_turns(*timings, batch_size)


STAGE = BenchStage()
