"""The steps of a run. Each names what its result depends on and obtains it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.config.model import ModelKind
from runner.config.root import Config, StageName
from runner.config.text import Text, TextKind
from runner.engines import find_engine
from runner.environment import package_versions
from runner.experiment.compute import model_config, model_dtype, resolve_compute
from runner.methods import find_method
from runner.models.fingerprint import fingerprint
from runner.models.locate import locate
from runner.recipe import Recipe
from runner.serialise import to_json
from runner.session import Obtained, Session, Work
from runner.stages.bench import BenchRequest
from runner.stages.eval import EvalRequest
from runner.stages.hardware import HardwareRequest
from runner.stages.model import DIRECTORY as MODEL_DIRECTORY
from runner.stages.model import ModelRequest
from runner.stages.quantize import DIRECTORY as CHECKPOINT_DIRECTORY
from runner.stages.quantize import QuantizeRequest
from runner.stages.text import TextRequest

_FLOAT_LABELS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True)
class Subject:
    """A checkpoint to look at, and what identifies its content."""

    directory: Path
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
            return Subject(locate(model), identity, label)
        packages = ("torch", "transformers", "tokenizers", "gguf")
        made = self._obtain(
            "model", f"model {model.name}", ModelRequest(model), identity | self._versions(packages)
        )
        return Subject(made.directory / MODEL_DIRECTORY, identity, label)

    def text(self, text: Text) -> Obtained:
        """A text's documents."""
        versions: dict[str, Any] = {}
        if text.kind is TextKind.standard_library:
            versions = {"python": self._python_version()}
        if text.kind is TextKind.file and text.path:
            versions = {"file": _file_state(Path(text.path))}
        return self._obtain(
            "text",
            f"text {text.name}",
            TextRequest(text),
            {"text": to_json(text), **versions},
        )

    def checkpoint(self, model: Subject) -> tuple[Subject, Obtained | None]:
        """The recipe's checkpoint; the model itself when there is nothing to do."""
        recipe = self._recipe()
        if recipe.is_identity and _FLOAT_LABELS[recipe.bits.label] == model_dtype(model.directory):
            return model, None
        method = find_method(recipe.method.name)
        versions = self._versions(method.abilities.packages)
        text = None
        if recipe.calibration is not None and recipe.calibration.text is not None:
            text = self.text(recipe.calibration.text)
        compute_dtype = self._compute.dtype_for(model.directory)
        request = QuantizeRequest(
            model_directory=model.directory,
            recipe=to_json(recipe),
            text_directory=text.directory if text else None,
            device=self._compute.device,
            compute_dtype=compute_dtype,
            trust_remote_code=self._config.model.trust_remote_code,
            versions=versions["versions"],
        )
        determinants = {
            **model.identity,
            **versions,
            "recipe": to_json(recipe),
            "calibration_text": text.address.key if text else None,
            "device": self._compute.device,
            "compute_dtype": compute_dtype,
        }
        made = self._obtain(
            "quantize", f"quantize {recipe.label}", request, determinants, StageName.quantize
        )
        directory = made.directory / CHECKPOINT_DIRECTORY
        return Subject(directory, {"checkpoint": made.address.key}, recipe.label), made

    def evaluate(self, subject: Subject, model: Subject, baseline: Obtained | None) -> Obtained:
        """Quality of a subject, against the baseline's evaluation where there is one."""
        eval_, engine = self._config.eval, self._config.engine
        text = self.text(eval_.text)
        dtype = self._compute.dtype
        request = EvalRequest(
            checkpoint=subject.directory,
            tokenizer_directory=model.directory,
            text_directory=text.directory,
            context_length=eval_.context_length,
            windows=eval_.windows,
            engine=engine.name,
            device=self._compute.device,
            dtype=dtype,
            trust_remote_code=self._config.model.trust_remote_code,
            baseline_directory=baseline.directory if baseline else None,
        )
        determinants = {
            "subject": subject.identity,
            "tokenizer": model.identity,
            "text": text.address.key,
            "context_length": eval_.context_length,
            "windows": eval_.windows,
            "engine": engine.name,
            "device": self._compute.device,
            "dtype": dtype,
            "baseline": baseline.address.key if baseline else None,
            **self._versions(find_engine(engine.name).packages),
        }
        title = f"eval {subject.label}"
        return self._obtain("eval", title, request, determinants, StageName.eval)

    def bench(self, subject: Subject, bandwidth_bytes_per_second: float | None) -> Obtained:
        """Speed of a subject: measured once a sweep, or taken from the store if asked for."""
        bench, engine = self._config.bench, self._config.engine
        request = BenchRequest(
            checkpoint=subject.directory,
            engine=engine.name,
            device=self._compute.device,
            dtype=self._compute.dtype,
            trust_remote_code=self._config.model.trust_remote_code,
            # Who else is measured, and whether anew, does not change this measurement.
            load=replace(bench, baseline=True, reuse=False),
            bandwidth_bytes_per_second=bandwidth_bytes_per_second,
        )
        determinants = {
            "subject": subject.identity,
            "engine": engine.name,
            "device": self._compute.device,
            "dtype": self._compute.dtype,
            "load": to_json(request.load),
            "threads": self._compute.threads,
            "machine": self._session.machine.to_dict(),
            **self._versions(find_engine(engine.name).packages),
        }
        if not bench.reuse:
            determinants["measured_in"] = self._sweep
        title = f"bench {subject.label}"
        return self._obtain("bench", title, request, determinants, StageName.bench)

    def bandwidth_bytes_per_second(self) -> float | None:
        """Memory bandwidth: measured for this machine, published for a device in the table."""
        published = self._config.hardware.memory_bandwidth_gigabytes_per_second
        if published is not None:
            return published * 1e9
        machine = self._session.machine
        request = HardwareRequest(self._compute.device, machine.last_level_cache_bytes)
        determinants = {
            "machine": machine.to_dict(),
            "device": self._compute.device,
            "threads": self._compute.threads,
            **self._versions(("torch",)),
        }
        measured = self._obtain("hardware", "hardware local", request, determinants)
        value: float = measured.result["bandwidth_bytes_per_second"]
        return value

    def is_quantized(self, model: Subject) -> bool:
        """Whether the model was quantized before the runner saw it."""
        return "quantization_config" in model_config(model.directory)

    def _recipe(self) -> Recipe:
        config = self._config
        recipe = Recipe(config.method, config.bits, config.group_size, config.calibration)
        recipe.calibration = find_method(config.method.name).calibration_for(recipe)
        return recipe

    def _obtain(
        self,
        stage: str,
        title: str,
        request: Any,
        determinants: dict[str, Any],
        forced_by: StageName | None = None,
    ) -> Obtained:
        return self._session.obtain(
            Work(
                stage=stage,
                title=title,
                request=request,
                determinants=determinants,
                environment=self._config.environment,
                threads=self._compute.threads,
                force=forced_by is not None and forced_by in self._config.force,
            )
        )

    def _versions(self, packages: tuple[str, ...]) -> dict[str, Any]:
        return {"versions": package_versions(self._config.environment.python, packages)}

    def _python_version(self) -> str:
        import platform

        return platform.python_version()


def _file_state(path: Path) -> list[Any]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [[str(file), *_size_and_time(file)] for file in files if file.is_file()]


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
