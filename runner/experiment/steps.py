"""The steps of a run. Each names what its result depends on and obtains it."""

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.config.engine import Engine
from runner.config.model import ModelKind
from runner.config.root import Config, StageName
from runner.config.text import Text, TextKind
from runner.engines import find_engine
from runner.engines.loading import LoadRequest
from runner.environments.choose import choose
from runner.environments.ready import ReadyEnvironment
from runner.experiment.compute import model_config, model_dtype, resolve_compute
from runner.methods import find_method
from runner.methods.base import abilities_of
from runner.models.fingerprint import fingerprint
from runner.models.locate import locate
from runner.recipe import Recipe
from runner.serialise import to_json
from runner.session import Obtained, Session, Task, Work
from runner.stages.bench import BenchRequest
from runner.stages.check import CheckRequest
from runner.stages.eval import EvalRequest
from runner.stages.gguf import DIRECTORY as GGUF_DIRECTORY
from runner.stages.gguf import GgufRequest
from runner.stages.hardware import HardwareRequest
from runner.stages.model import DIRECTORY as MODEL_DIRECTORY
from runner.stages.model import ModelRequest
from runner.stages.quantize import DIRECTORY as CHECKPOINT_DIRECTORY
from runner.stages.quantize import QuantizeRequest
from runner.stages.text import TextRequest

_FLOAT_LABELS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_TRANSFORMERS = "transformers"
_RESOLVED = ("environment", "device", "dtype", "threads")
"""Settings of every engine that are told as they were resolved, or change no result."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint to look at, and what identifies its content."""

    directory: Path
    format: str
    """``float``, ``compressed-tensors``, ``gptq``, ``awq``, ``bitsandbytes`` or ``gguf``."""
    identity: dict[str, Any]
    label: str


class Steps:
    """Obtains what one configuration needs, from the session's store or workers."""

    def __init__(self, config: Config, session: Session, sweep: str) -> None:
        """Resolve where to compute."""
        self._config = config
        self._session = session
        self._sweep = sweep
        self._compute = resolve_compute(config.engine, session.machine)

    def model(self) -> Subject:
        """The unquantized model (or whatever ``model`` names), on this machine's disk."""
        model = self._config.model
        identity = {"model": fingerprint(model, self._session.store.cache)}
        label = "unquantized" if StageName.quantize in self._config.stages else model.name
        if model.kind in (ModelKind.local, ModelKind.hub):
            directory = locate(model)
            return Subject(directory, _format(directory), identity, label)
        environment = self._environment(_TRANSFORMERS)
        versions = environment.versions(("torch", "transformers", "tokenizers", "gguf"))
        task = self._task("model", ModelRequest(model), environment)
        made = self._session.obtain(
            Work(f"model {model.name}", task, {**identity, "versions": versions})
        )
        return Subject(made.directory / MODEL_DIRECTORY, "float", identity, label)

    def text(self, text: Text) -> Obtained:
        """A text's documents."""
        versions: dict[str, Any] = {}
        if text.kind is TextKind.standard_library:
            versions = {"python": platform.python_version()}
        if text.kind is TextKind.file and text.path:
            versions = {"file": _file_state(Path(text.path))}
        task = self._task("text", TextRequest(text), self._environment(_TRANSFORMERS))
        return self._session.obtain(
            Work(f"text {text.name}", task, {"text": to_json(text), **versions})
        )

    def checkpoint(self, model: Subject) -> tuple[Subject, Obtained | None]:
        """The recipe's checkpoint; the model itself when there is nothing to do."""
        recipe = self._recipe()
        if recipe.is_identity and _FLOAT_LABELS[recipe.bits.label] == model_dtype(model.directory):
            return model, None
        abilities = abilities_of(recipe.method)
        environment = self._environment(recipe.method.backend, recipe.method.environment)
        text = None
        if recipe.calibration is not None and recipe.calibration.text is not None:
            text = self.text(recipe.calibration.text)
        request = QuantizeRequest(
            model_directory=model.directory,
            recipe=to_json(recipe),
            text_directory=text.directory if text else None,
            device=self._compute.device,
            compute_dtype=self._compute.dtype_for(model.directory),
            trust_remote_code=self._config.model.trust_remote_code,
            versions=environment.versions(abilities.packages),
        )
        determinants = {
            **model.identity,
            "versions": request.versions,
            "shims": list(environment.shims),
            "recipe": request.recipe,
            "calibration_text": text.address.key if text else None,
            "device": request.device,
            "compute_dtype": request.compute_dtype,
        }
        inspector = self._inspector(model, recipe, abilities.checkpoint_format)
        made = self._session.obtain(
            Work(
                title=f"quantize {recipe.label}",
                task=self._task("quantize", request, environment),
                determinants=determinants,
                force=StageName.quantize in self._config.force,
                inspection=inspector,
            )
        )
        identity = {"checkpoint": made.address.key}
        directory = made.directory / CHECKPOINT_DIRECTORY
        return Subject(directory, abilities.checkpoint_format, identity, recipe.label), made

    def evaluate(self, subject: Subject, model: Subject, baseline: Obtained | None) -> Obtained:
        """Quality of a subject, against the baseline's evaluation where there is one."""
        eval_, engine = self._config.eval, self._config.engine
        subject = self._presented(subject)
        text = self.text(eval_.text)
        environment = self._environment(engine.name, engine.environment)
        load = self._load(subject, engine)
        request = EvalRequest(
            load=load,
            tokenizer_directory=model.directory,
            text_directory=text.directory,
            context_length=eval_.context_length,
            windows=eval_.windows,
            baseline_directory=baseline.directory if baseline else None,
        )
        determinants = {
            "subject": subject.identity,
            "tokenizer": model.identity,
            "text": text.address.key,
            "context_length": eval_.context_length,
            "windows": eval_.windows,
            **_engine_determinants(load),
            "baseline": baseline.address.key if baseline else None,
            "versions": environment.versions(find_engine(engine.name).packages),
        }
        force = StageName.eval in self._config.force
        task = self._task("eval", request, environment)
        return self._session.obtain(Work(f"eval {subject.label}", task, determinants, force))

    def bench(self, subject: Subject, bandwidth_bytes_per_second: float | None) -> Obtained:
        """Speed of a subject: measured once a sweep, or taken from the store if asked for."""
        bench, engine = self._config.bench, self._config.engine
        subject = self._presented(subject)
        environment = self._environment(engine.name, engine.environment)
        load = self._load(subject, engine)
        request = BenchRequest(
            subject=load,
            # Who else is measured, and whether anew, does not change this measurement.
            load=replace(bench, baseline=True, reuse=False),
            bandwidth_bytes_per_second=bandwidth_bytes_per_second,
        )
        determinants = {
            "subject": subject.identity,
            **_engine_determinants(load),
            "load": to_json(request.load),
            "threads": self._compute.threads,
            "machine": self._session.machine.to_dict(),
            "versions": environment.versions(find_engine(engine.name).packages),
        }
        if not bench.reuse:
            determinants["measured_in"] = self._sweep
        force = StageName.bench in self._config.force
        task = self._task("bench", request, environment)
        return self._session.obtain(Work(f"bench {subject.label}", task, determinants, force))

    def bandwidth_bytes_per_second(self) -> float | None:
        """Memory bandwidth: measured for this machine, published for a device in the table."""
        published = self._config.hardware.memory_bandwidth_gigabytes_per_second
        if published is not None:
            return published * 1e9
        machine = self._session.machine
        environment = self._environment(_TRANSFORMERS)
        request = HardwareRequest(self._compute.device, machine.last_level_cache_bytes)
        determinants = {
            "machine": machine.to_dict(),
            "device": self._compute.device,
            "threads": self._compute.threads,
            "versions": environment.versions(("torch",)),
        }
        task = self._task("hardware", request, environment)
        measured = self._session.obtain(Work("hardware local", task, determinants))
        value: float = measured.result["bandwidth_bytes_per_second"]
        return value

    def _presented(self, subject: Subject) -> Subject:
        """The subject in a format that the engine takes: a dense model may need another."""
        if subject.format != "float":
            return subject
        if find_engine(self._config.engine.name).dense_format == "float":
            return subject
        environment = self._environment("llama_cpp")
        dtype = self._config.engine.dtype.value
        if dtype == "auto":
            # Where bfloat16 would be emulated, float16 keeps the size and the speed.
            emulated = self._compute.dtype == "float32"
            dtype = "float16" if emulated else model_dtype(subject.directory)
        versions = environment.versions(("llama-cpp-python", "gguf", "transformers"))
        made = self._session.obtain(
            Work(
                title=f"GGUF of {subject.label}",
                task=self._task("gguf", GgufRequest(subject.directory, dtype), environment),
                determinants={**subject.identity, "dtype": dtype, "versions": versions},
            )
        )
        return replace(
            subject,
            directory=made.directory / GGUF_DIRECTORY,
            format="gguf",
            identity={"gguf": made.address.key},
        )

    def _inspector(self, model: Subject, recipe: Recipe, checkpoint_format: str) -> Any:
        """Reloads a fresh checkpoint in the engine that reads its format best."""
        engine = Engine(name="hf")
        if checkpoint_format == "gguf":
            engine = find_engine("llama_cpp").config(name="llama_cpp")
        environment = self._environment(engine.name)
        text = self.text(self._config.eval.text)

        def inspect(directory: Path) -> Task:
            place = directory / CHECKPOINT_DIRECTORY
            request = CheckRequest(
                subject=self._load(Subject(place, checkpoint_format, {}, ""), engine),
                model_directory=model.directory,
                text_directory=text.directory,
                bits=to_json(recipe.bits),
                group_size=to_json(recipe.group_size),
            )
            return self._task("check", request, environment)

        return inspect

    def _recipe(self) -> Recipe:
        config = self._config
        recipe = Recipe(config.method, config.bits, config.group_size, config.calibration)
        recipe.calibration = find_method(config.method.name).calibration_for(recipe)
        return recipe

    def _load(self, subject: Subject, engine: Engine) -> LoadRequest:
        return LoadRequest(
            checkpoint=subject.directory,
            checkpoint_format=subject.format,
            engine=to_json(engine),
            device=self._compute.device,
            dtype=self._compute.dtype,
            trust_remote_code=self._config.model.trust_remote_code,
        )

    def _environment(self, need: str, named: str | None = None) -> ReadyEnvironment:
        chosen = choose(self._config.environment, need, self._compute.device, named)
        return self._session.environment(chosen)

    def _task(self, stage: str, request: Any, environment: ReadyEnvironment) -> Task:
        return Task(stage, request, environment, self._compute.threads)


def _engine_determinants(load: LoadRequest) -> dict[str, Any]:
    settings = {key: value for key, value in load.engine.items() if key not in _RESOLVED}
    return {"engine": settings, "device": load.device, "dtype": load.dtype}


def _format(directory: Path) -> str:
    quantization = model_config(directory).get("quantization_config") or {}
    name: str = quantization.get("quant_method") or "float"
    return name


def _file_state(path: Path) -> list[Any]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [[str(file), *_size_and_time(file)] for file in files if file.is_file()]


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
