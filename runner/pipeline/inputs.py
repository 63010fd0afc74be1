"""What every stage of a run draws on: the model, texts, environments, where to compute."""

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.config.schema.engine import Dtype, Engine
from runner.config.schema.eval import EvalDtype
from runner.config.schema.model import Model, ModelKind
from runner.config.schema.root import Config, StageName
from runner.config.schema.text import Text, TextKind
from runner.data.models.directory import MADE_DTYPE
from runner.data.models.fingerprint import fingerprint
from runner.data.models.gguf_config import check_readable
from runner.data.models.gguf_header import gguf_dtype, read_header
from runner.data.models.gguf_source import gguf_file
from runner.data.models.locate import locate, pickled
from runner.data.models.view import only_read
from runner.data.models.weights import stored_dtype
from runner.data.texts.files import states
from runner.engines import find_engine
from runner.engines.loading import LoadRequest
from runner.environments.choose import choose
from runner.environments.ready import ReadyEnvironment
from runner.errors import Refused
from runner.methods.backends import llama_cpp
from runner.pipeline.checkpoint import Subject
from runner.pipeline.session import Obtained, Session, Task, Work
from runner.pipeline.stages.gguf import DIRECTORY as GGUF_DIRECTORY
from runner.pipeline.stages.gguf import GgufRequest
from runner.pipeline.stages.model import DIRECTORY as MODEL_DIRECTORY
from runner.pipeline.stages.model import ModelRequest
from runner.pipeline.stages.text import TextRequest
from runner.pipeline.stages.weights import WeightsRequest
from runner.planning.arithmetic import (
    FLOAT32,
    Arithmetic,
    evaluated_checkpoints,
    quality_arithmetic,
)
from runner.planning.compute import model_config, resolve_compute, told_dtype
from runner.planning.model_facts import model_facts
from runner.store.files import sha256_of_json
from runner.util.extensions import Kind, versions_of
from runner.util.serialise import to_json

TRANSFORMERS = "transformers"
AUTO = Dtype.auto.value
_RESOLVED = ("environment", "device", "dtype", "threads")
"""Settings of every engine that are told as they were resolved, or change no result."""


class Inputs:
    """One configuration's model, texts and environments, from the session's store or workers."""

    def __init__(
        self, config: Config, session: Session, sweep: str, warnings: list[str] | None = None
    ) -> None:
        """Resolve where to compute; what ``warn`` is told is added to ``warnings``."""
        self.config = config
        self.warnings = [] if warnings is None else warnings
        self._mentioned: set[str] = set()
        self.session = session
        session.verify, session.warn = config.store.verify, self.warn
        self.sweep = sweep
        self.compute = resolve_compute(config.engine, session.machine)
        self._arithmetic: Arithmetic | None = None
        self.only_looks = False
        """A dry run: nothing is made, noted or told, and what is not there is done without."""

    def model(self) -> Subject:
        """The unquantized model (or whatever ``model`` names), on this machine's disk."""
        model = self.config.model
        identity = {"model": fingerprint(model, self.session.store.cache)}
        label = "unquantized" if StageName.quantize in self.config.stages else model.name
        source = gguf_file(model)
        made_of, dtype = model, MADE_DTYPE
        found = None
        if source is None and model.kind in (ModelKind.local, ModelKind.hub):
            found = locate(model)
            if not pickled(found, model):
                return self._of_directory(self._seen(found), identity, label)
            made_of = replace(model, name=found.name, kind=ModelKind.local, path=str(found))
        if source is not None:
            # Wherever it lies, and whatever it is called: what is made of it is the same.
            made_of = Model(name=source.stem, kind=ModelKind.local, path=str(source))
            header = read_header(source)
            check_readable(header)
            dtype = gguf_dtype(header, MADE_DTYPE)
        environment = self.environment(TRANSFORMERS)
        versions = environment.versions(("torch", "transformers", "tokenizers", "gguf"))
        task = self.task("model", ModelRequest(made_of), environment)
        made = self.session.obtain(
            Work(f"model {model.name}", task, {**identity, "versions": versions})
        )
        directory = made.directory / MODEL_DIRECTORY
        if found is not None and directory.is_dir():
            return self._of_directory(directory, identity, label)
        return Subject(directory, "float", identity, label, dtype)

    def _seen(self, directory: Path) -> Path:
        """What libraries are to see of a directory."""
        if self.only_looks:
            return directory
        trusted = self.config.model.trust_remote_code
        return only_read(directory, self.session.store.cache, trust_remote_code=trusted)

    def _of_directory(self, directory: Path, identity: dict[str, Any], label: str) -> Subject:
        """The model of a directory in Hugging Face layout, every tensor accounted for."""
        dtype = stored_dtype(directory)
        told = told_dtype(directory) == dtype
        subject = Subject(directory, _format(directory), identity, label, dtype, told)
        self._account(subject)
        return subject

    def _account(self, subject: Subject) -> None:
        """See that the model's files hold its tensors, before anything is read or made.

        Raises:
            WorkerFailed: Some are missing, left over or of another shape.
        """
        environment = self.environment(TRANSFORMERS)
        trusted = self.config.model.trust_remote_code
        request = WeightsRequest(subject.directory, subject.format, trusted)
        task = self.task("weights", request, environment)
        versions = environment.versions(("transformers", "compressed-tensors"))
        determinants = {**subject.identity, "versions": versions}
        self.session.obtain(Work(f"weights of {self.config.model.name}", task, determinants))

    def text(self, text: Text) -> Obtained:
        """A text's documents."""
        versions: dict[str, Any] = {}
        if text.kind is TextKind.standard_library:
            versions = {"python": platform.python_version()}
        if text.kind is TextKind.file and text.path:
            versions = {"file": file_state(Path(text.path).expanduser())}
        task = self.task("text", TextRequest(text), self.environment(TRANSFORMERS))
        return self.session.obtain(
            Work(f"text {text.name}", task, {"text": to_json(text), **versions})
        )

    def warn(self, warning: str) -> None:
        """Tell the user and the run's record."""
        if warning not in self.warnings:
            self.warnings.append(warning)
            if not self.only_looks:
                self.session.display.line(f"  warning: {warning}", style="yellow")

    def mention(self, what: str) -> None:
        """Tell the user once what the record has anyway."""
        if what not in self._mentioned and not self.only_looks:
            self.session.display.line(f"  {what}", style="dim")
        self._mentioned.add(what)

    @property
    def arithmetic(self) -> Arithmetic:
        """In which quality is measured; asked for once the model is there."""
        if self._arithmetic is None:
            facts = model_facts(self.config.model)
            loaded = evaluated_checkpoints(
                self.config, facts.quantized_as, facts.text_config, self.compute.device
            )
            self._arithmetic = quality_arithmetic(
                self.config, self.compute, facts.parameters, loaded
            )
        return self._arithmetic

    def rounding_dtype(self, model: Subject) -> str:
        """Torch dtype name in which the recipe computes and rounds, and sensitivities are measured.

        Raises:
            Refused: The model's numbers may lie beyond the range of what was asked for.
        """
        asked = self.config.method.rounding_dtype
        parameters = model_facts(self.config.model).parameters
        found = self.compute.rounding_dtype(asked, model.dtype, parameters)
        if asked is Dtype.float16 and model.dtype != found:
            raise Refused(
                f"method.rounding_dtype=float16: the model's numbers are {model.dtype}, whose "
                "range and that of their scales float16 does not hold; try "
                "method.rounding_dtype=float32"
            )
        if asked is Dtype.auto and found != FLOAT32:
            self.warn(
                f"weights are rounded in {found}: this GPU has no room for the model in float32, "
                "in which another machine would make another checkpoint"
            )
        return found

    def presented(self, subject: Subject, *, for_quality: bool = False) -> Subject:
        """The subject in a format that the engine takes: a dense model may need another.

        Args:
            subject: Any.
            for_quality: In a type that does not hang on what this CPU is fast at.
        """
        if subject.format != "float":
            return subject
        engine = find_engine(self.config.engine.name)
        if engine.dense_format == "float":
            return subject
        environment = self.environment(llama_cpp.NAME)
        dtype = self.config.engine.dtype.value
        if dtype == "auto":
            # Where bfloat16 would be emulated, float16 keeps the size and the speed.
            emulated = self.compute.dtype == "float32"
            dtype = engine.traits.dense_without_bfloat16 if emulated else subject.dtype
        own = engine.traits.own_arithmetic
        if for_quality and own and self.config.eval.dtype is EvalDtype.auto:
            on_cpu = self.compute.device == "cpu"
            dtype = own.dense_on_cpus if on_cpu and self._holds_float32() else subject.dtype
        versions = environment.versions(("llama-cpp-python", "gguf", "transformers"))
        made = self.session.obtain(
            Work(
                title=f"GGUF of {subject.label}",
                task=self.task("gguf", GgufRequest(subject.directory, dtype), environment),
                determinants={**subject.identity, "dtype": dtype, "versions": versions},
            )
        )
        return replace(
            subject,
            directory=made.directory / GGUF_DIRECTORY,
            format="gguf",
            identity={"gguf": made.address.key},
        )

    def _holds_float32(self) -> bool:
        return self.compute.holds_float32(model_facts(self.config.model).parameters)

    def load(self, subject: Subject, engine: Engine, dtype: str | None = None) -> LoadRequest:
        """How a stage asks for the subject in an engine.

        Args:
            subject: What to load.
            engine: Which one and its settings.
            dtype: Arithmetic where quality is measured; ``None`` for that in which it is timed.
        """
        wanted = dtype or self.compute.dtype
        return LoadRequest(
            checkpoint=subject.directory,
            checkpoint_format=subject.format,
            engine=to_json(engine),
            device=self.compute.device,
            # Libraries go by config.json, which may claim another type than the tensors have.
            dtype=subject.dtype if wanted == AUTO and not subject.told_right else wanted,
            trust_remote_code=self.config.model.trust_remote_code,
            wide_logits=dtype is not None,
        )

    def environment(self, need: str, named: str | None = None) -> ReadyEnvironment:
        """The environment that provides what is needed, or the one that was named."""
        chosen = choose(self.config.environment, need, self.compute.device, named)
        return self.session.environment(chosen)

    def task(
        self,
        stage: str,
        request: Any,
        environment: ReadyEnvironment,
        subject: Subject | None = None,
    ) -> Task:
        """A stage in an environment, with this configuration's threads.

        Args:
            stage: Its name.
            request: What it is given.
            environment: Where it runs.
            subject: What ``request.load`` loads and the next task may use, if it is the same. Tasks
                that measure memory load for themselves.
        """
        model = None
        if subject is not None:
            loaded = [subject.identity, to_json(request.load), self.compute.threads]
            model = sha256_of_json(loaded)
        return Task(stage, request, environment, self.compute.threads, model)


def engine_versions(environment: ReadyEnvironment, name: str, *others: str) -> dict[str, str]:
    """Versions of all that an engine's results depend on: packages, and the plug-in it is of.

    Args:
        environment: Where it runs.
        name: Of the engine.
        others: Further distributions.
    """
    packages = (*others, *find_engine(name).packages)
    return environment.versions(packages) | versions_of(Kind.engine, name)


def engine_determinants(load: LoadRequest) -> dict[str, Any]:
    """What of an engine and its arithmetic determines a result."""
    settings = {key: value for key, value in load.engine.items() if key not in _RESOLVED}
    return {"engine": settings, "device": load.device, "dtype": load.dtype}


def _format(directory: Path) -> str:
    quantization = model_config(directory).get("quantization_config") or {}
    name: str = quantization.get("quant_method") or "float"
    return name


def file_state(path: Path) -> list[Any]:
    """Names, sizes and times of a file or of all files in a folder, for a key."""
    return [[*state] for state in states(path)]
