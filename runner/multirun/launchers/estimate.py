"""Estimates time and memory of a stage: from similar records, else roughly."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

from runner.config.schema.root import Config
from runner.errors import StageError
from runner.pipeline.record import used_recipe_label
from runner.pipeline.stages import find_stage
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.planning.compute_for import compute_for, subject_of
from runner.planning.hardware.detect import Machine
from runner.planning.memory import Need, need
from runner.planning.model_facts import model_facts
from runner.store.records import RunRecord, StageRecord

_CPU_OPERATIONS_PER_SECOND = 4e10
"""Of one core in a forward pass; only the order of magnitude counts."""
_GPU_OPERATIONS_PER_SECOND = 4e13
_CPU_BYTES_PER_SECOND = 1e10
_GPU_BYTES_PER_SECOND = 1e12
_START_SECONDS = 6.0
"""Of a worker that imports torch and transformers."""
_LOADING_SECONDS = 1.0
"""Of any model."""
_BESIDES_SECONDS = 2.0
"""Of a run besides its stages, its tracker for the most part."""
_INTERPRETER_BYTES = 0.7e9
_CONVERTED_BYTES_PER_SECOND = 1e8


@dataclass(frozen=True)
class Estimate:
    """What is still to be done of a run, or of a sweep."""

    seconds: float = 0.0
    memory_bytes: float = 0.0
    """Of the machine's, at its highest."""
    disk_bytes: float = 0.0
    rough: bool = False
    """Part of it comes from no measurement."""
    gpu_bytes: float = 0.0
    """Of each GPU in use, at its highest; zero where there is none, or nothing goes there."""
    gpus: int = 0
    """Those that share it."""

    def taking(self, seconds: float) -> "Estimate":
        """The same, with its time known from work of the same kind."""
        return replace(self, seconds=seconds, rough=False)

    def and_then(self, other: "Estimate") -> "Estimate":
        """Both, one after the other."""
        return Estimate(
            self.seconds + other.seconds,
            max(self.memory_bytes, other.memory_bytes),
            self.disk_bytes + other.disk_bytes,
            self.rough or other.rough,
            max(self.gpu_bytes, other.gpu_bytes),
            max(self.gpus, other.gpus),
        )

    def __str__(self) -> str:
        how = "roughly" if self.rough else "about"
        on_gpus = ""
        if self.gpu_bytes:
            several = f"{self.gpus} times " if self.gpus > 1 else ""
            on_gpus = f"{several}{self.gpu_bytes / 1e9:.1f} GB of GPU memory, "
        return (
            f"{how} {_duration(self.seconds)}, {self.memory_bytes / 1e9:.1f} GB of memory, "
            f"{on_gpus}{self.disk_bytes / 1e6:.1f} MB of disk"
        )


def starting(seconds: float | None) -> Estimate:
    """A worker that imports its libraries, as long as it took before."""
    return Estimate(_START_SECONDS, rough=True) if seconds is None else Estimate(seconds)


def besides(seconds: float | None) -> Estimate:
    """What a run takes besides its stages, as long as it took before."""
    return Estimate(_BESIDES_SECONDS, rough=True) if seconds is None else Estimate(seconds)


class Experience:
    """What stages took in earlier runs, by how much they resemble the one in question."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        """Learn from all of a store's records."""
        self._known: dict[tuple[str, ...], list[Estimate]] = {}
        for record in records:
            method = str(record.config.get("method", {}).get("name"))
            for stage in record.stages:
                if stage.reused:
                    continue
                estimate = Estimate(
                    stage.seconds,
                    stage.resources.peak_memory_bytes or 0,
                    disk_bytes=_written(stage),
                )
                for key in _ladder(stage.stage, record.model, record.engine, method, record.label):
                    self._known.setdefault(key, []).append(estimate)

    def estimate(self, stage: str, config: Config, machine: Machine, parameters: int) -> Estimate:
        """Of one stage.

        Args:
            stage: Its name.
            config: The run's.
            machine: Where it runs.
            parameters: Of the model; zero where that is not known.
        """
        names = (config.model.name, config.engine.name, config.method.name)
        keys = _ladder(stage, *names, used_recipe_label(config))
        # What one method takes says nothing of another.
        for key in keys if find_stage(stage).asks_engine else keys[:2]:
            if like := self._known.get(key):
                taken = _need(stage, config, machine)
                return Estimate(
                    statistics.median(one.seconds for one in like),
                    max(one.memory_bytes for one in like),
                    statistics.median(one.disk_bytes for one in like),
                    gpu_bytes=taken.gpu_bytes if taken else 0.0,
                    gpus=taken.gpus if taken else 0,
                )
        return _roughly(stage, config, machine, parameters)


def _written(stage: StageRecord) -> float:
    """Bytes of a checkpoint that a stage wrote."""
    try:
        return stage.read(QUANTIZE).checkpoint_bytes if stage.stage == QUANTIZE.name else 0.0
    except StageError:  # of another version: nothing is learnt from it
        return 0.0


def _ladder(stage: str, model: str, engine: str, method: str, label: str) -> list[tuple[str, ...]]:
    """From the most like to the least."""
    return [(stage, model, engine, method, label), (stage, model, engine, method), (stage, model)]


def _roughly(stage: str, config: Config, machine: Machine, parameters: int) -> Estimate:
    """Two operations a weight and token; everything read once a decoded token."""
    gpu = compute_for(config, machine).device != "cpu"
    cost = find_stage(stage).cost(config, gpu)
    if cost.seconds is not None:
        return Estimate(cost.seconds, _INTERPRETER_BYTES, rough=True)
    rate = _GPU_OPERATIONS_PER_SECOND if gpu else _CPU_OPERATIONS_PER_SECOND * machine.usable_cores
    bandwidth = _GPU_BYTES_PER_SECOND if gpu else _CPU_BYTES_PER_SECOND
    weights: float = parameters * (2 if gpu else 4)
    seconds = _LOADING_SECONDS + 2 * parameters * cost.tokens / rate
    seconds += cost.decoded_tokens * weights / bandwidth
    seconds += cost.converted_bits / 8 * parameters / _CONVERTED_BYTES_PER_SECOND
    memory = _INTERPRETER_BYTES + (1.3 + cost.models - 1) * weights
    stored = cost.stored_bits / 8 * parameters
    if (taken := _need(stage, config, machine)) is None:
        return Estimate(seconds, memory, disk_bytes=stored, rough=True)
    return Estimate(
        seconds,
        taken.host_bytes,
        stored,
        rough=True,
        gpu_bytes=taken.gpu_bytes,
        gpus=taken.gpus,
    )


def _need(stage: str, config: Config, machine: Machine) -> Need | None:
    """What a stage takes of this machine's memory and its GPUs'; ``None`` without a GPU."""
    compute = compute_for(config, machine)
    if not compute.gpus:
        return None
    subject = subject_of(config, compute, model_facts(config.model))
    return None if subject is None else need(stage, subject)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
