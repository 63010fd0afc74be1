"""Benchmarked runs in the store, as data points to test predictions against."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.config.schema.root import StageName
from runner.errors import StageError, UsageError
from runner.evaluation.metrics.speed import BatchResult
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.bench import BenchResult
from runner.planning.formats import Format
from runner.planning.kernels.measured import StepWork, step_work
from runner.planning.local import machine_key
from runner.planning.model_shape import Shape
from runner.planning.roofline import Step, decode_work
from runner.planning.runtime_format import (
    kv_number_bytes,
    recorded_kv_cache,
    runtime_format_of,
)
from runner.store.distinct_names import tell_apart
from runner.store.records import BASELINE, RECIPE, RunRecord, read_records
from runner.store.shared import Shared, without_collection
from runner.util.progress import progress
from runner.util.serialise import from_json


@dataclass(frozen=True)
class DataPoint:
    """One batch size of one benched checkpoint: what was measured, and what it had to do."""

    machine: str
    engine: str
    device: str
    """``cpu`` or ``cuda``."""
    held: Format
    dtype: str
    model: str
    shape: Shape = field(compare=False)
    recipe: str
    batch: int
    context: int
    """Mean tokens of a sequence while it was decoded."""
    streamed_bytes: float
    """Of weights and KV cache for one step, computed from dimensions and format."""
    operations: float
    bandwidth_bytes_per_second: float | None
    """Of the devices that computed at once, as one was measured for this run."""
    measured_seconds: float
    """Median time of a decode step: other work on the machine makes some steps slower."""
    work: StepWork
    kv_number_bytes: float = 2.0
    devices: int = 1
    """How many GPUs shared the work at the same time."""
    one_of_them: str | None = None
    """``machine`` with one GPU alone, whose limits are measured; ``None``: ``machine`` has one."""

    @property
    def one_device(self) -> str:
        """Key of the machine that limits are measured of: with one GPU alone."""
        return self.one_of_them or self.machine

    @property
    def group(self) -> tuple[str, str, str, str, str]:
        """Cases that share kernels and a machine, and so efficiency factors."""
        return (self.machine, self.engine, self.device, self.held.label, self.dtype)

    @property
    def engine_group(self) -> tuple[str, str, str, str]:
        """Cases of an engine on a machine, whatever the format."""
        return (self.machine, self.engine, self.device, self.dtype)


def cases_of(record: RunRecord) -> Iterator[DataPoint]:
    """Every batch size that a run benched; nothing where its dimensions are unknown."""
    if not any(stage.stage == BENCH.name for stage in record.stages):
        return
    try:
        shape = Shape(from_json(Architecture, record.config["model"]["architecture"]))
    except (UsageError, KeyError):
        return
    for subject in (BASELINE, RECIPE):
        bench = record.result(BENCH, subject)
        quantized = subject == RECIPE and record.entry(StageName.quantize, RECIPE) is not None
        # What reads a cache takes besides attending is not the weights' doing.
        usual = subject == BASELINE or recorded_kv_cache(record.config).is_auto
        # How what came quantized is held no configuration says.
        if bench is not None and usual and (quantized or subject == BASELINE):
            yield from _benched(record, bench, shape, quantized)


def _benched(
    record: RunRecord, bench: BenchResult, shape: Shape, quantized: bool
) -> Iterator[DataPoint]:
    # The configuration of another version of the runner may lack what a case needs.
    fmt = None
    with contextlib.suppress(KeyError, TypeError):
        fmt = runtime_format_of(record.engine, bench.dtype, record.config, quantized)
    if fmt is None:
        return
    context = round(bench.prompt_tokens + bench.new_tokens / 2)
    number_bytes = kv_number_bytes(record.engine, bench.dtype)
    one_gpu = {**record.host, "gpus": (record.host.get("gpus") or [])[:1]}
    for batch in bench.batches:
        work = decode_work(shape, fmt, Step(batch.batch_size, context, number_bytes))
        latency = batch.inter_token_latency_seconds
        yield DataPoint(
            machine=machine_key(record.host, bench.device),
            engine=record.engine,
            device=bench.device,
            held=fmt,
            dtype=bench.dtype,
            model=record.model,
            shape=shape,
            recipe=record.label if quantized else "unquantized",
            batch=batch.batch_size,
            context=context,
            streamed_bytes=work.streamed_bytes,
            operations=work.operations,
            bandwidth_bytes_per_second=_bandwidth(bench, batch),
            measured_seconds=latency.p50,
            work=step_work(
                shape,
                fmt,
                batch=batch.batch_size,
                context=context,
                kv_number_bytes=number_bytes,
            ),
            kv_number_bytes=number_bytes,
            devices=max((limits.devices for limits in bench.limits), default=1),
            one_of_them=machine_key(one_gpu, bench.device),
        )


def _bandwidth(bench: BenchResult, batch: BatchResult) -> float | None:
    """The bandwidth that the run's utilization was told against."""
    if not batch.memory_bandwidth_utilization:
        return None
    context = bench.prompt_tokens + bench.new_tokens / 2
    cache = batch.batch_size * context * bench.footprint.kv_cache_bytes_per_token
    read = bench.footprint.streamed_bytes(batch.batch_size) + cache
    seconds = batch.inter_token_latency_seconds.mean
    return read / seconds / batch.memory_bandwidth_utilization


def stored_cases(records: Iterable[RunRecord]) -> list[DataPoint]:
    """The cases of all records, each measurement once."""
    points: dict[tuple[Any, ...], DataPoint] = {}
    for record in records:
        for case in cases_of(record):
            # A result that was reused stands in several records.
            identity = (case.group, case.model, case.recipe, case.batch, case.context)
            points[(*identity, case.measured_seconds)] = case
    return list(points.values())


def all_records(runs: Path, known: Mapping[str, list[RunRecord]] | None = None) -> list[RunRecord]:
    """Every record of the store that this version of the runner can read, models told apart.

    Args:
        runs: The store's folder of records.
        known: Records of sweeps that have just been read.
    """
    known, shared = known or {}, Shared()
    sweeps = sorted(path.name for path in runs.glob("*") if path.is_dir())
    records: list[RunRecord] = []
    with without_collection(), progress("reading the store's sweeps", len(sweeps)) as seen:
        for sweep in sweeps:
            records += known[sweep] if sweep in known else _readable(runs, sweep, shared)
            seen()
        return tell_apart(records)


def _readable(runs: Path, sweep: str, shared: Shared) -> list[RunRecord]:
    try:
        return read_records(runs, sweep, shared)
    except (StageError, OSError):
        return []
