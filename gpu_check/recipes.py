"""What is quantized, scored and timed, and whether it can be here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_check.outcome import NotPossible
from gpu_check.setting import Setting
from runner.api import compose_config
from runner.config.schema.root import Config, StageName
from runner.engines import find_engine
from runner.engines.base import LoadSpec
from runner.engines.server import Requests
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager, State
from runner.errors import StageError, UsageError
from runner.methods import capabilities_of
from runner.pipeline.judge import judge
from runner.planning.compute import resolve_compute
from runner.util.gpus import visible_variables

ONE_BILLION = (
    "model=generated_500m",
    "model.name=generated_1b",
    "model.architecture.layers=16",
    "model.architecture.hidden=2048",
    "model.architecture.intermediate=8192",
    "model.architecture.heads=32",
    "model.architecture.kv_heads=8",
    "model.architecture.vocab=32000",
    "model.architecture.parameters=1038682112",
)
"""Shaped as Llama 3.2 1B, of random numbers: its quality means nothing, its speed and memory do."""
TINY = ("model=tiny",)
REHEARSED = (
    *TINY,
    "model.name=tiny_64",
    "model.architecture.head_dim=64",
    "model.architecture.parameters=180544",
)
"""In the place of the former on a CPU: vLLM has no kernels for heads as narrow as the tiny ones."""
CALIBRATED = (
    "calibration=python_docs",
    "calibration.samples=16",
    "calibration.sequence_length=512",
)
LOAD = (
    "eval.windows=4",
    "eval.context_length=512",
    "bench.prompt_tokens=128",
    "bench.new_tokens=32",
)
TINY_LOAD = (
    "eval.windows=2",
    "eval.context_length=128",
    "bench=quick",
)
W4A16 = ("bits=w4a16", "group_size=g64")


@dataclass(frozen=True)
class Recipe:
    """A way to quantize and an engine."""

    name: str
    overrides: tuple[str, ...]
    engine: str = "hf"
    batches: str = "[1,8]"
    needs: float = 15.0
    """Seconds that it takes at least."""
    limit: float = 150.0

    @property
    def stages(self) -> str:
        """What is done; the unquantized model has nothing to be quantized."""
        quantize = "" if "method=none" in self.overrides else "quantize,"
        return f"stages=[{quantize}eval,bench]"

    @property
    def sweep(self) -> str:
        """Name of its sweep."""
        return self.name.replace(" ", "_").replace(".", "")

    def arguments(self, model: Sequence[str], load: Sequence[str]) -> list[str]:
        """Its overrides for a model."""
        batches = () if load is TINY_LOAD else (f"bench.batch_sizes={self.batches}",)
        return [*model, *self.overrides, f"engine={self.engine}", self.stages, *load, *batches]


HF = (
    Recipe("hf bf16", ("method=none", "bits=bf16")),
    Recipe("hf fp8", ("method=fp8",)),
    Recipe("hf rtn w4a16", ("method=rtn", *W4A16)),
    Recipe("hf gptq w4a16", ("method=gptq", *W4A16, *CALIBRATED), needs=25.0),
    Recipe("hf NF4", ("method=bnb_4bit",)),
    Recipe("hf LLM.int8", ("method=llm_int8",)),
    Recipe("hf awq w4a16", ("method=awq", *W4A16, *CALIBRATED), needs=40.0),
)
VLLM = (
    Recipe("vllm bf16", ("method=none", "bits=bf16"), "vllm", "[1,8,64]", 45.0, 200.0),
    Recipe("vllm rtn w4a16", ("method=rtn", *W4A16), "vllm", "[1,8,64]", 45.0, 200.0),
    Recipe("vllm fp8", ("method=fp8",), "vllm", "[1,8,64]", 45.0, 200.0),
)
LLAMA_CPP = (Recipe("llama_cpp Q4_K_M", ("method=gguf", "bits=w4a16"), "llama_cpp", needs=30.0),)


def possible(setting: Setting, arguments: Sequence[str]) -> None:
    """Nothing, where a run can be carried out here.

    Raises:
        NotPossible: See ``require``; or the configuration is invalid.
    """
    overrides = setting.arguments(*arguments)
    try:
        config = compose_config(overrides)
    except UsageError as error:
        raise NotPossible(str(error)) from None
    require(setting, config, overrides)


def require(setting: Setting, config: Config, overrides: list[str]) -> None:
    """Nothing, where a configuration can be carried out here.

    Raises:
        NotPossible: It is refused, or an environment that it needs is not there. None is made:
            that takes minutes and gigabytes.
    """
    try:
        if reasons := judge(config, setting.machine, overrides).reasons:
            raise NotPossible(reasons[0])
        for need, named, device in _needs(config, setting.device):
            _there(setting, config, need, named, device)
    except UsageError as error:
        raise NotPossible(str(error)) from None


def server_command(setting: Setting, config: Config) -> list[str]:
    """How the engine's own server would be started, with its environment variables before it.

    It has the arguments that the engine is given in a worker. Empty for engines without a server,
    and for those that look at a checkpoint's files first.
    """
    compute = resolve_compute(config.engine, setting.machine)
    spec = LoadSpec(
        checkpoint=Path("CHECKPOINT"),
        checkpoint_format="",
        device=compute.device,
        dtype=compute.dtype,
        trust_remote_code=False,
        threads=compute.threads,
        settings=config.engine,
    )
    try:
        command = find_engine(config.engine.name).server(spec, Requests(Path("MODEL"), [], 512))
    except StageError:
        return []
    if command is None:
        return []
    variables = visible_variables(compute.gpus) | command.variables
    return [*(f"{name}={value}" for name, value in variables.items()), *command.arguments]


def _needs(config: Config, device: str) -> list[tuple[str, str | None, str]]:
    """What environments provide, the name of one if it is given, and where it is to compute."""
    needs = [(config.engine.name, config.engine.environment, device)]
    if StageName.quantize in config.stages:
        where = "cpu" if capabilities_of(config.method).only_on_cpus else device
        needs.append((config.method.backend, config.method.environment, where))
    return needs


def _there(setting: Setting, config: Config, need: str, named: str | None, device: str) -> None:
    environment = choose(config.environment, need, device, named)
    manager = EnvironmentManager(setting.environments, setting.store / "logs")
    if manager.state(environment) in (State.absent, State.outdated):
        raise NotPossible(
            f"environment {environment.name} is not there: runner env create {environment.name}, "
            f"or name an interpreter with environment.{environment.name}.python="
        )
