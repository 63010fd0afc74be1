"""Stage ``serving``: an engine's server under load. Runs where guidellm is installed."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from runner.config.schema.serving import Serving
from runner.data.models.weights import weight_file_bytes
from runner.engines.server import ServerCommand, serve
from runner.evaluation.serving.load import Level, Target, apply_load
from runner.pipeline.worker.job import StageContext


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
    """Most resident memory of the server and its children, summed."""
    levels: list[Level]


class ServingStage:
    """Measures a server."""

    name = "serving"
    schema_version = 1
    request = ServingRequest
    result = ServingResult

    def run(self, request: ServingRequest, context: StageContext) -> ServingResult:
        """Start the server, send requests, stop it."""
        load = request.load
        context.progress(0, 2, "starting the server")
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
            asked = request.command
            target = Target(server.url, asked.model, asked.body, request.tokenizer_directory)
            levels = apply_load(target, load, Path(scratch))
            peak = server.peak_memory_bytes()
        context.progress(2, 2, "sending requests")
        return ServingResult(
            engine=request.engine,
            prompt_tokens=load.prompt_tokens,
            new_tokens=load.new_tokens,
            checkpoint_bytes=weight_file_bytes(request.checkpoint),
            startup_seconds=startup,
            server_peak_memory_bytes=peak,
            levels=levels,
        )


STAGE = ServingStage()
