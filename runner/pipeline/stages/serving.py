"""Stage ``serving``: an engine's server under load. Runs where guidellm is installed."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.schema.serving import Serving
from runner.data.models.weights import weight_file_bytes
from runner.engines.instruments.driver import Held, held_by, read_gpus
from runner.engines.server import Requests, ServerCommand, serve
from runner.evaluation.serving.load import Level, Target, apply_load
from runner.pipeline.stages.base import Cost, Stage, StageContext

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.context import Expected, RunContext
    from runner.pipeline.stage_job import StageResult

LOAD_GENERATOR = "guidellm"


@dataclass
class ServingRequest:
    """A server to start, and the load to put on it."""

    engine: str
    checkpoint: Path
    tokenizer_directory: Path
    """The unquantized model's: every recipe gets the same prompts."""
    python: str
    """Interpreter of the engine's environment."""
    variables: dict[str, str]
    command: ServerCommand
    load: Serving
    device: str = "cpu"
    """``cpu`` or ``cuda``."""


@dataclass
class ServingResult:
    """What requests met, level by level."""

    engine: str
    prompt_tokens: int
    new_tokens: int
    checkpoint_bytes: int
    startup_seconds: float
    """Until the first answer, loading included."""
    server_peak_memory_bytes: int
    """Most resident memory of the server and its children, summed: none of a GPU's."""
    levels: list[Level]
    server_device_memory: Held | None = None
    """What they held of the GPUs in use when the last request was answered, what the server sets
    aside included; ``None`` on a CPU, and where the driver does not tell."""


class ServingStage(Stage[ServingRequest, ServingResult]):
    """Measures a server."""

    name = "serving"
    schema_version = 1
    request = ServingRequest
    result = ServingResult
    measures = True
    follows = ("bench", "quantize")

    def run(self, request: ServingRequest, context: StageContext) -> ServingResult:
        """Start the server, send requests, stop it."""
        load = request.load
        context.progress(0, 2, "starting the server")
        unused = [] if request.device == "cpu" else read_gpus()
        start = time.perf_counter()
        with (
            tempfile.TemporaryDirectory() as scratch,
            serve(
                request.python,
                request.command,
                request.variables,
                context.output / "server.log",
                load.startup_timeout_seconds,
            ) as server,
        ):
            startup = time.perf_counter() - start
            context.progress(1, 2, "sending requests")
            command = request.command
            target = Target(server.url, command.model, command.body, request.tokenizer_directory)
            levels = apply_load(target, load, Path(scratch))
            peak = server.peak_memory_bytes()
            held = None
            if request.device != "cpu":
                held = held_by(server.processes(), unused, read_gpus())
        context.progress(2, 2, "sending requests")
        return ServingResult(
            engine=request.engine,
            prompt_tokens=load.prompt_tokens,
            new_tokens=load.new_tokens,
            checkpoint_bytes=weight_file_bytes(request.checkpoint),
            startup_seconds=startup,
            server_peak_memory_bytes=peak,
            levels=levels,
            server_device_memory=held,
        )

    def carry_out(self, run: "RunContext") -> None:
        """The recipe's server; the unquantized model's before, where ``bench.baseline``."""
        for whose, checkpoint in run.checkpoints(baseline=run.config.bench.baseline):
            run.keep(self.name, whose, self.obtain(run, checkpoint))

    def obtain(self, run: "RunContext", checkpoint: "Checkpoint") -> "StageResult[ServingResult]":
        """A checkpoint's server: measured once a sweep, or taken from the store if asked for."""
        from runner.config.renamed import names_of_keys
        from runner.engines import find_engine
        from runner.engines.loading import specification
        from runner.pipeline.inputs import engine_determinants, engine_versions
        from runner.planning.compute import model_config
        from runner.util.serialise import to_json

        inputs, model, subject = run.inputs, run.model, checkpoint
        load, settings = inputs.config.serving, inputs.config.engine
        subject = inputs.for_engine(subject)
        engine = find_engine(settings.name)
        own = inputs.environment(settings.name, settings.environment)
        generator = inputs.environment(LOAD_GENERATOR)
        load_request = inputs.load(subject, settings)
        config = {} if inputs.only_looks else model_config(model.directory)
        end: int | list[int] | None = config.get("eos_token_id")
        command = engine.server(
            specification(load_request, inputs.compute.threads),
            Requests(
                model.directory,
                [] if end is None else end if isinstance(end, list) else [end],
                load.prompt_tokens + load.new_tokens,
            ),
        )
        assert command is not None  # legality has refused engines without a server
        request = ServingRequest(
            engine=settings.name,
            checkpoint=subject.directory,
            tokenizer_directory=model.directory,
            python=own.python,
            variables=own.variables,
            command=command,
            load=replace(load, reuse=False),
            device=load_request.device,
        )
        determinants = {
            "subject": subject.identity,
            "tokenizer": model.identity,
            **engine_determinants(load_request),
            "load": names_of_keys("serving", to_json(request.load)),
            "threads": inputs.compute.threads,
            "machine": inputs.machine.identity(),
            "versions": {
                **engine_versions(own, settings.name),
                **generator.versions((LOAD_GENERATOR,)),
            },
        }
        return inputs.obtain(
            self, request, generator,
            title=f"serving {subject.label}", determinants=determinants, reuse=load.reuse,
        )  # fmt: skip

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """Of what speed is measured of."""
        return [(self.name, label) for label in run.timed]

    def metrics(self, result: ServingResult) -> dict[str, float | None]:
        """Start-up, memory, and what requests met at every level of load."""
        held = result.server_device_memory
        metrics: dict[str, float | None] = {
            "serving/startup_seconds": result.startup_seconds,
            "serving/server_peak_memory_bytes": result.server_peak_memory_bytes,
            "serving/server_device_memory_bytes": None if held is None else held.bytes,
        }
        for level in result.levels:
            stem = f"serving/concurrency_{level.concurrency}"
            if level.concurrency is None:
                stem = f"serving/arrival_rate_{level.arrival_rate:g}"
            for name in (
                "requests_per_second",
                "output_tokens_per_second",
                "attainment",
                "goodput_requests_per_second",
                "failed",
            ):
                metrics[f"{stem}/{name}"] = getattr(level, name)
            for name in (
                "time_to_first_token_seconds",
                "time_per_output_token_seconds",
                "request_latency_seconds",
            ):
                for statistic in ("mean", "p50", "p90", "p99"):
                    metrics[f"{stem}/{name}/{statistic}"] = getattr(getattr(level, name), statistic)
        return metrics

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """All requests of all levels."""
        load = config.serving
        levels = len(load.concurrencies) + len(load.arrival_rates)
        return Cost(tokens=1.0 * levels * load.requests * (load.prompt_tokens + load.new_tokens))


STAGE = ServingStage()
