"""Stage ``serving``: an engine's server under load. Runs where guidellm is installed."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.serving import Serving
from runner.data.models.weights import weight_file_bytes
from runner.engines.instruments.driver import Held, held_by, read_gpus
from runner.engines.server import Requests, ServerCommand, serve
from runner.evaluation.serving.level import Level
from runner.evaluation.serving.load import Target, apply_load
from runner.evaluation.serving.search import Capacity
from runner.pipeline.stages.base import Cells, Cost, Stage, StageContext, quantile_rows
from runner.store.records import RECIPE

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.context import Expected, RunContext
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult

LOAD_GENERATOR = "guidellm"
LEFT_OUT = "serving left out: "
"""How a run's warning begins whose recipe was not served, before the reason."""
_LATER = {"max_concurrency": None, "warmup_rounds": 0}
"""Fields that older versions did not have, with the values that change nothing."""
_RATES = (
    "requests_per_second",
    "output_tokens_per_second",
    "steady_tokens_per_second",
    "attainment",
    "goodput_requests_per_second",
    "failed",
)
_LATENCIES = (
    "time_to_first_token_seconds",
    "time_per_output_token_seconds",
    "request_latency_seconds",
)


def load_determinants(load: Serving) -> dict[str, Any]:
    """What of a load goes into the key of its result.

    Fields that came later are left out where they say nothing, so that results of earlier versions
    are found.

    Args:
        load: The section, without ``reuse``.
    """
    from runner.config.renamed import names_of_keys
    from runner.util.serialise import to_json

    unsaid = {
        *load.unread(),
        *(name for name, value in _LATER.items() if getattr(load, name) == value),
    }
    told: dict[str, Any] = {k: v for k, v in to_json(load).items() if k not in unsaid}
    return names_of_keys("serving", told)


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
    devices: int = 1
    """That share the model."""
    dollars_per_hour: float | None = None
    """Of one of them; ``None`` where no price is known."""


@dataclass
class ServingResult:
    """What requests met, level by level, in the order of measuring."""

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
    capacity: Capacity | None = None
    """The largest concurrency that met the objective; ``None`` if nobody asked for it."""
    devices: int = 1
    """That share the model: a CPU with its cores is one."""
    dollars_per_hour: float | None = None
    """Price of one of them; ``None`` where it is not known."""

    def dollars_per_million_tokens(self, level: Level) -> float | None:
        """Price of generated tokens at a load, if devices are kept as busy as that all day.

        ``None`` where the price or a steady rate is not known.
        """
        if self.dollars_per_hour is None or not level.steady_tokens_per_second:
            return None
        return self.dollars_per_hour * self.devices / 3600 / level.steady_tokens_per_second * 1e6


class ServingStage(Stage[ServingRequest, ServingResult]):
    """Measures a server."""

    name = "serving"
    schema_version = 1
    request = ServingRequest
    result = ServingResult
    measures = True
    follows = ("bench", "eval", "quantize", "tasks")

    def run(self, request: ServingRequest, context: StageContext) -> ServingResult:
        """Start the server, send requests, stop it."""
        load = request.load
        steps = 1 + most_levels(load)
        context.progress(0, steps, "starting the server")
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
            done = iter(range(1, steps))

            def tell(level: str) -> None:
                context.progress(next(done, steps - 1), steps, f"sending requests, {level}")

            command = request.command
            target = Target(server.url, command.model, command.body, request.tokenizer_directory)
            served = apply_load(target, load, Path(scratch), tell)
            peak = server.peak_memory_bytes()
            held = None
            if request.device != "cpu":
                held = held_by(server.processes(), unused, read_gpus())
        context.progress(steps, steps, "sending requests")
        return ServingResult(
            engine=request.engine,
            prompt_tokens=load.prompt_tokens,
            new_tokens=load.new_tokens,
            checkpoint_bytes=weight_file_bytes(request.checkpoint),
            startup_seconds=startup,
            server_peak_memory_bytes=peak,
            levels=served.levels,
            server_device_memory=held,
            capacity=served.capacity,
            devices=request.devices,
            dollars_per_hour=request.dollars_per_hour,
        )

    def carry_out(self, run: "RunContext") -> None:
        """The recipe's server; the unquantized model's before, where ``bench.baseline``.

        A recipe that is known by now not to meet ``decide``'s limits is not worth a server's time.
        """
        for whose, checkpoint in run.checkpoints(baseline=run.config.bench.baseline):
            if whose == RECIPE and (why := run.ruled_out()) is not None:
                run.inputs.warn(f"{LEFT_OUT}{why}")
                continue
            run.keep(self.name, whose, self.obtain(run, checkpoint))

    def obtain(self, run: "RunContext", checkpoint: "Checkpoint") -> "StageResult[ServingResult]":
        """A checkpoint's server: measured once a sweep, or taken from the store if asked for."""
        from runner.engines import find_engine
        from runner.engines.loading import specification
        from runner.pipeline.inputs import engine_determinants, engine_versions
        from runner.planning.compute import model_config

        inputs, model, subject = run.inputs, run.model, checkpoint
        load, settings = inputs.config.serving, inputs.config.engine
        subject = inputs.for_engine(subject)
        engine = find_engine(settings.name)
        own = inputs.environment(settings.name, settings.environment)
        generator = inputs.environment(LOAD_GENERATOR)
        load_request = inputs.load(subject, settings)
        config = {} if inputs.only_looks else model_config(model.directory)
        end: int | list[int] | None = config.get("eos_token_id")
        ends = [] if end is None else end if isinstance(end, list) else [end]
        requests = Requests(model.directory, ends, load.prompt_tokens + load.new_tokens)
        command: ServerCommand | None = ServerCommand([], "")
        # A dry run may have no file to serve, and starts nothing.
        if not inputs.only_looks:
            command = engine.server(specification(load_request, inputs.compute.threads), requests)
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
            devices=max(1, len(inputs.compute.gpus)),
            dollars_per_hour=_price(inputs),
        )
        determinants = {
            "subject": subject.identity,
            "tokenizer": model.identity,
            **engine_determinants(load_request),
            "load": load_determinants(request.load),
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
        if result.capacity is not None:
            metrics["serving/largest_concurrency"] = result.capacity.concurrency or 0
        for level in result.levels:
            for name in _RATES:
                metrics[f"serving/{name}/{_load(level)}"] = getattr(level, name)
            for name in _LATENCIES:
                metrics[f"serving/{name}/{_load(level)}"] = getattr(level, name).mean
        return metrics

    def tables(self, result: ServingResult) -> dict[str, Cells]:
        """Quantiles over requests, one line each."""
        lines = [
            row
            for level in result.levels
            for name in _LATENCIES
            for row in quantile_rows(_load(level), name, getattr(level, name))
        ]
        return {"serving/quantiles": (["of", "metric", "quantile", "value"], lines)}

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """All requests of all levels."""
        load = config.serving
        tokens = load.requests * (load.prompt_tokens + load.new_tokens)
        return Cost(tokens=1.0 * most_levels(load) * tokens)


def most_levels(load: Serving) -> int:
    """How many levels are measured, of a search about as many as it takes."""
    searched = 0 if load.max_concurrency is None else 2 * load.max_concurrency.bit_length() - 1
    return len(load.concurrencies) + len(load.arrival_rates) + searched


def _price(inputs: "Inputs") -> float | None:
    """Dollars an hour of one device: as set, or that of the published device that this one is."""
    from runner.planning.hardware.table import published_device

    price = inputs.config.hardware.price.dollars_per_hour
    if price is None and inputs.compute.gpus:
        listed = published_device(inputs.machine)
        price = None if listed is None else listed.price.dollars_per_hour
    return price


STAGE = ServingStage()


def _load(level: Level) -> str:
    """A level of load, as names of metrics end with it."""
    if level.concurrency is None:
        return f"arrival_rate_{level.arrival_rate:g}"
    return f"concurrency_{level.concurrency}"
