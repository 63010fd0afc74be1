"""Stage ``bench``: speed and memory of a checkpoint in an engine, batch size by batch size."""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from runner.config.schema.bench import Bench, Interleave
from runner.config.schema.root import Config
from runner.data.models.tensors import TensorReport
from runner.engines import find_engine, traits_of
from runner.engines.base import Footprint
from runner.engines.instruments.memory import ControlGroupMemory
from runner.engines.loading import LoadRequest
from runner.evaluation.metrics.flops import ForwardWork
from runner.evaluation.metrics.speed import BatchResult, InTurns, Limits
from runner.pipeline.stages.base import Cells, Cost, Stage, StageContext
from runner.pipeline.stages.bench.metrics import metrics_of, tables_of
from runner.store.records import BASELINE, BASELINE_AGAIN
from runner.util.serialise import to_json

if TYPE_CHECKING:
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.context import Expected, RunContext
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult


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
    against: LoadRequest | None = None
    """The unquantized model, to take turns with."""
    not_in_turns: str | None = None
    """Why there is none although there is something to compare with."""


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
    """Most resident memory of the process, imported libraries included: none of a GPU's."""
    device_peak_memory_bytes: int | None
    """Most that a batch size took of the GPUs in use: weights, the KV cache of its tokens,
    activations, and not what is set aside for more. ``None`` on a CPU, and where it is not known.
    """
    control_group: ControlGroupMemory | None
    footprint: Footprint
    kv_cache_bytes_per_token_measured: float | None
    """As the engine held it, beside ``footprint.kv_cache_bytes_per_token``, which is computed from
    the model's dimensions."""
    limits: list[Limits]
    batches: list[BatchResult]
    in_turns: list[InTurns]
    """Against the unquantized model, batch size by batch size. The subject's repetitions are those
    of ``batches``; empty where no turns were taken."""
    not_in_turns: str | None = None
    """Why none were, where there is something to compare with."""

    @property
    def memory_bytes(self) -> int | None:
        """What recipes are compared by: of the GPUs where they compute, else of the process."""
        on_gpu = self.device.startswith("cuda")
        return self.device_peak_memory_bytes if on_gpu else self.peak_memory_bytes

    @property
    def held_memory_bytes(self) -> int | None:
        """Most that the engine's processes held of the GPUs, set aside or used."""
        held = [batch.memory.held for batch in self.batches]
        told = [one.bytes for one in held if one is not None]
        return max(told) if told and len(told) == len(held) else None


def _without_device_memory(content: dict[str, Any]) -> dict[str, Any]:
    """A result of version 3, whose peak on a GPU had what was set aside, or one GPU's alone."""
    return {**content, "device_peak_memory_bytes": None}


class BenchStage(Stage[BenchRequest, BenchResult]):
    """Measures speed and memory."""

    name = "bench"
    schema_version = 4
    request = BenchRequest
    result = BenchResult
    older = MappingProxyType({3: _without_device_memory})
    measures = True
    follows = ("tasks", "eval", "quantize")

    def run(self, request: BenchRequest, context: StageContext) -> BenchResult:
        """Load on the clock, warm up, then measure."""
        from runner.pipeline.stages.bench.measure import measure

        return measure(request, context)

    def carry_out(self, run: "RunContext") -> None:
        """The unquantized model's speed, then the recipe's, in turns with it where that can be."""
        for whose, checkpoint in run.checkpoints(baseline=run.config.bench.baseline):
            dense = run.model if run.has_recipe and whose != BASELINE and run.has_baseline else None
            found = self.time(run, checkpoint, dense)
            run.keep(self.name, whose, found)
            if dense is not None and self._needs_baseline_again(run.config, found):
                again = self.time(run, run.model, None, after=found)
                run.keep(self.name, BASELINE_AGAIN, again)

    def time(
        self,
        run: "RunContext",
        checkpoint: "Checkpoint",
        model: "Checkpoint | None",
        after: "StageResult[BenchResult] | None" = None,
    ) -> "StageResult[BenchResult]":
        """Speed of a checkpoint: measured once a sweep, or taken from the store if asked for.

        Args:
            run: Whose engine and load.
            checkpoint: What to measure.
            model: The unquantized model that it was made from and is compared with, to take turns
                with where the configuration asks for that; ``None`` when there is none.
            after: A measurement after which this one is made once more, to see what the machine
                did.
        """
        from runner.pipeline.inputs import engine_determinants, engine_versions
        from runner.pipeline.stages.bench.limits import arithmetic, limits, model_work

        inputs, bench, engine = run.inputs, run.config.bench, run.config.engine
        dense = checkpoint.format == "float"
        checkpoint = inputs.for_engine(checkpoint)
        environment = inputs.environment(engine.name, engine.environment)
        load = inputs.load(checkpoint, engine)
        against, why_not = _opponent(inputs, model)
        request = BenchRequest(
            subject=load,
            # Who else is measured, and whether anew, does not change this measurement.
            load=replace(
                bench,
                baseline=True,
                reuse=False,
                interleave=bench.interleave if against is not None else Interleave.never,
            ),
            limits=limits(inputs),
            work=model_work(run),
            arithmetic=arithmetic(inputs, checkpoint, dense),
            against=None if against is None else inputs.load(against, engine),
            not_in_turns=why_not,
        )
        determinants: dict[str, Any] = {
            "subject": checkpoint.identity,
            "against": why_not if against is None else against.identity,
            **engine_determinants(load),
            "load": to_json(request.load),
            "threads": inputs.compute.threads,
            "machine": inputs.machine.identity(),
            "versions": engine_versions(environment, engine.name),
        }
        if after is not None:
            determinants["after"] = after.address.key
        again = " again" if after is not None else ""
        return inputs.obtain(
            self, request, environment,
            title=f"bench {checkpoint.label}{again}",
            determinants=determinants, reuse=bench.reuse,
        )  # fmt: skip

    @staticmethod
    def _needs_baseline_again(config: Config, measured: "StageResult[BenchResult]") -> bool:
        """Whether a recipe took no turns, so that only another look tells what the machine did."""
        if not config.bench.baseline or config.bench.interleave is not Interleave.auto:
            return False
        if measured.known is None:
            return not traits_of(config.engine.name).several_models
        return not measured.known.in_turns

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """A second look at the unquantized model too, where it cannot be beside the recipe."""
        config, labels = run.config, run.timed
        again = config.has_recipe and config.bench.baseline
        again = again and not traits_of(config.engine.name).several_models
        if again and config.bench.interleave is Interleave.auto:
            labels = [*labels, *run.model]
        return [(self.name, label) for label in labels]

    def metrics(self, result: BenchResult) -> dict[str, float | None]:
        """Loading, memory, and rates and latencies at every batch size."""
        return metrics_of(result)

    def tables(self, result: BenchResult) -> dict[str, Cells]:
        """Every repetition, and quantiles over them."""
        return tables_of(result)

    def cost(self, config: Config, on_gpu: bool) -> Cost:
        """All repetitions, the unquantized model's between them included."""
        bench, turns = config.bench, _takes_turns(config)
        each = bench.repetitions + bench.warmups
        generations = each * len(bench.batch_sizes) * (2 if turns else 1)
        return Cost(
            tokens=1.0 * generations * bench.prompt_tokens,
            decoded_tokens=1.0 * generations * bench.new_tokens,
            models=2 if turns else 1,
        )


def _takes_turns(config: Config) -> bool:
    """Whether recipe and unquantized model are in memory together while they are timed."""
    bench = config.bench
    asked = bench.interleave is Interleave.always or (
        bench.interleave is Interleave.auto and bench.baseline
    )
    return asked and config.has_recipe and traits_of(config.engine.name).several_models


def _opponent(
    inputs: "Inputs", model: "Checkpoint | None"
) -> "tuple[Checkpoint | None, str | None]":
    """The model to take turns with, as the engine wants it; or why there is none."""
    bench, engine = inputs.config.bench, inputs.config.engine
    if model is None:
        return None, None
    if bench.interleave is Interleave.never:
        return None, "bench.interleave=never"
    if bench.interleave is Interleave.auto and not bench.baseline:
        return None, "bench.baseline=false"
    if not find_engine(engine.name).traits.several_models:
        return None, f"engine={engine.name} cannot hold two models in a process"
    return inputs.for_engine(model), None


STAGE = BenchStage()
