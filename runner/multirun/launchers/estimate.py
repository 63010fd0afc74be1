"""How long a stage may take and what it may need: from records of the like, else roughly."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runner.config.schema.bench import Interleave
from runner.config.schema.root import Config
from runner.engines import traits_of
from runner.methods.recipe import used_recipe
from runner.pipeline.record import used_recipe_label
from runner.planning.hardware.detect import Machine
from runner.store.records import RunRecord

_CPU_OPERATIONS_PER_SECOND = 8e9
"""Of one core in a forward pass; only the order of magnitude counts."""
_GPU_OPERATIONS_PER_SECOND = 4e13
_CPU_BYTES_PER_SECOND = 1e10
_GPU_BYTES_PER_SECOND = 1e12
_START_SECONDS = 6.0
"""Of a worker that imports torch and transformers."""
_INTERPRETER_BYTES = 0.7e9
_USUAL_ITEMS = 1000
_TOKENS_OF_AN_ITEM = 400
"""Four answers of a hundred tokens, question included."""
_USUAL_TOKENS = 20_000.0
_SMALL = {"text": 5.0, "tokens": 2.0, "windows": 5.0, "overlap": 3.0, "items": 2.0}
_SMALL |= {"hardware": 30.0, "task_data": 20.0}


@dataclass(frozen=True)
class Estimate:
    """What is still to be done of a run, or of a sweep."""

    seconds: float = 0.0
    memory_bytes: float = 0.0
    """At its highest."""
    disk_bytes: float = 0.0
    rough: bool = False
    """Part of it comes from no measurement."""

    def and_then(self, other: "Estimate") -> "Estimate":
        """Both, one after the other."""
        return Estimate(
            self.seconds + other.seconds,
            max(self.memory_bytes, other.memory_bytes),
            self.disk_bytes + other.disk_bytes,
            self.rough or other.rough,
        )

    def __str__(self) -> str:
        how = "roughly" if self.rough else "about"
        return (
            f"{how} {_duration(self.seconds)}, {self.memory_bytes / 1e9:.1f} GB of memory, "
            f"{self.disk_bytes / 1e6:.1f} MB of disk"
        )


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
                memory = stage.result.get("resources", {}).get("peak_memory_bytes", 0)
                made = stage.result.get("checkpoint_bytes", 0) if stage.stage == "quantize" else 0
                found = Estimate(stage.seconds, memory, made)
                for key in _ladder(stage.stage, record.model, record.engine, method, record.label):
                    self._known.setdefault(key, []).append(found)

    def estimate(self, stage: str, config: Config, machine: Machine, parameters: int) -> Estimate:
        """Of one stage.

        Args:
            stage: Its name.
            config: The run's.
            machine: Where it runs.
            parameters: Of the model; zero where that is not known.
        """
        names = (config.model.name, config.engine.name, config.method.name)
        for key in _ladder(stage, *names, used_recipe_label(config)):
            if like := self._known.get(key):
                return Estimate(
                    statistics.median(one.seconds for one in like),
                    max(one.memory_bytes for one in like),
                    statistics.median(one.disk_bytes for one in like),
                )
        return _roughly(stage, config, machine, parameters)


def _ladder(stage: str, model: str, engine: str, method: str, label: str) -> list[tuple[str, ...]]:
    """From the most like to the least."""
    return [(stage, model, engine, method, label), (stage, model, engine, method), (stage, model)]


def _roughly(stage: str, config: Config, machine: Machine, parameters: int) -> Estimate:
    """Two operations a weight and token; everything read once a decoded token."""
    if stage in _SMALL:
        return Estimate(_SMALL[stage], _INTERPRETER_BYTES, 0.0, rough=True)
    gpu = bool(machine.gpus) and config.engine.device.value != "cpu"
    rate = _GPU_OPERATIONS_PER_SECOND if gpu else _CPU_OPERATIONS_PER_SECOND * machine.usable_cores
    weights: float = parameters * (2 if gpu else 4)
    memory = _INTERPRETER_BYTES + 1.3 * weights
    tokens, seconds, disk = _tokens(stage, config), _START_SECONDS, 0.0
    if stage == "model":
        disk = 2.0 * parameters
        seconds += disk / 1e8
    elif stage == "quantize":
        disk = parameters * _bits(config) / 8
        seconds += weights / 1e8
    elif stage == "bench":
        bandwidth = _GPU_BYTES_PER_SECOND if gpu else _CPU_BYTES_PER_SECOND
        seconds += _bench_turns(config) * config.bench.new_tokens * weights / bandwidth
        if _takes_turns(config):
            memory += weights
    seconds += 2 * parameters * tokens / rate
    return Estimate(seconds, memory, disk, rough=True)


def _tokens(stage: str, config: Config) -> float:
    """Tokens that go through the model."""
    eval_, bench, serving = config.eval, config.bench, config.serving
    read = 1.0 * eval_.windows * eval_.context_length
    if stage == "quantize":
        calibration = used_recipe(config).calibration
        return 3.0 * calibration.tokens if calibration is not None else 0.0
    if stage == "eval":
        return read
    if stage == "tasks":
        limit = config.tasks.limit
        items = limit if limit is not None and limit > 1 else _USUAL_ITEMS * (limit or 1.0)
        return items * len(config.tasks.names) * _TOKENS_OF_AN_ITEM
    if stage == "bench":
        return 1.0 * _bench_turns(config) * bench.prompt_tokens
    if stage == "serving":
        loads = len(serving.concurrencies) + len(serving.arrival_rates)
        return 1.0 * loads * serving.requests * (serving.prompt_tokens + serving.new_tokens)
    return 0.0 if stage in ("model", "gguf") else _USUAL_TOKENS


def _bench_turns(config: Config) -> int:
    """Generations of a recipe's benchmark, the unquantized model's between them included."""
    each = config.bench.repetitions + config.bench.warmups
    return each * len(config.bench.batch_sizes) * (2 if _takes_turns(config) else 1)


def _takes_turns(config: Config) -> bool:
    """Whether recipe and unquantized model are in memory together while they are timed."""
    bench = config.bench
    asked = bench.interleave is Interleave.always or (
        bench.interleave is Interleave.auto and bench.baseline
    )
    return asked and config.makes_checkpoint and traits_of(config.engine.name).several_models


def _bits(config: Config) -> float:
    weight: Any = config.bits.weight
    return float(weight.num_bits) + 0.5 if weight is not None else 16.0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
