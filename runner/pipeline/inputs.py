"""Inputs shared by the stages of a run: model, texts, environments, device."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner.config.schema.engine import Dtype, Engine
from runner.config.schema.eval import EvalDtype
from runner.config.schema.root import Config
from runner.config.schema.text import Text, TextKind
from runner.data.texts.files import states
from runner.engines import find_engine
from runner.engines.loading import LoadRequest
from runner.environments.choose import choose
from runner.environments.ready import ReadyEnvironment
from runner.errors import Refused
from runner.methods import capabilities_of
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.stage_job import StageJob, StageResult, WorkerTask
from runner.pipeline.stages.jobs.continued import STAGE as CONTINUED
from runner.pipeline.stages.jobs.gguf import STAGE as GGUF
from runner.pipeline.stages.jobs.text import STAGE as TEXT
from runner.pipeline.stages.jobs.text import TextResult
from runner.planning.arithmetic import (
    FLOAT32,
    Arithmetic,
    evaluated_checkpoints,
    quality_arithmetic,
)
from runner.planning.compute import Compute, resolve_compute
from runner.planning.compute_for import compute_for
from runner.planning.model_facts import model_facts
from runner.store.files import sha256_of_json
from runner.util.extensions import Kind, names, versions_of
from runner.util.serialise import to_json

if TYPE_CHECKING:
    from runner.pipeline.session import Session
    from runner.pipeline.stages.base import Stage

Request = TypeVar("Request")
Result = TypeVar("Result")

AUTO = Dtype.auto.value
_RESOLVED = ("environment", "device", "dtype", "threads")
"""Settings of every engine that are told as they were resolved, or change no result."""


class Inputs:
    """One configuration's model, texts and environments, from the session's store or workers."""

    def __init__(
        self, config: Config, session: "Session", sweep: str, warnings: list[str] | None = None
    ) -> None:
        """Resolve where to compute; what ``warn`` is told is added to ``warnings``."""
        self.config = config
        self.warnings = [] if warnings is None else warnings
        self._mentioned: set[str] = set()
        self.session = session
        session.verify, session.warn = config.store.verify, self.warn
        self.sweep = sweep
        self.compute = compute_for(config, session.machine)
        self.machine = session.machine.using(self.compute.gpus)
        """This one, with the GPUs in use."""
        self._arithmetic: Arithmetic | None = None
        self.converted: dict[Path, Path] = {}
        """Directories of models in the engine's own format, by those they were made from."""
        self.only_looks = False
        """A dry run: nothing is made, noted or told, and what is not there is done without."""

    def text(self, text: Text) -> StageResult[TextResult]:
        """A text's documents."""
        written = text.kind is TextKind.continuations
        return (CONTINUED if written else TEXT).obtain_text(self, text)

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
            told, where = (facts.quantized_as, facts.text_config), self.compute
            loaded = evaluated_checkpoints(self.config, *told, where.device, where.gpus)
            self._arithmetic = quality_arithmetic(
                self.config, self.compute, facts.parameters, loaded
            )
        return self._arithmetic

    def on(self, device: str | None) -> Compute:
        """Where to compute, if it is on ``cpu`` whatever the engine's device is."""
        if device is None or device == self.compute.device:
            return self.compute
        return resolve_compute(replace(self.config.engine, device=device), self.session.machine)

    def rounding_dtype(
        self, model: Checkpoint, device: str | None = None, *, whole: bool = False
    ) -> str:
        """Torch dtype name in which the recipe computes and rounds, and sensitivities are measured.

        Args:
            model: What is rounded.
            device: Where; the engine's device by default.
            whole: Whether all of it lies on the device, whatever the recipe's backend does.

        Raises:
            Refused: The model's numbers may lie beyond the range of what was asked for.
        """
        asked = self.config.method.rounding_dtype
        parameters = model_facts(self.config.model).parameters
        by_blocks = not whole and capabilities_of(self.config.method).onloading is not None
        found = self.on(device).rounding_dtype(asked, model.dtype, parameters, by_blocks=by_blocks)
        if asked is Dtype.float16 and model.dtype != found:
            raise Refused(
                f"method.rounding_dtype=float16: the model's weights are {model.dtype}, whose "
                "range and scales exceed float16; try method.rounding_dtype=float32"
            )
        if asked is Dtype.auto and found != FLOAT32:
            self.warn(
                f"weights are rounded in {found}: this {'machine' if by_blocks else 'GPU'} has too "
                "little memory for float32, in which another machine would make a different "
                "checkpoint"
            )
        return found

    def for_engine(self, subject: Checkpoint, *, for_quality: bool = False) -> Checkpoint:
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
        dtype = self.config.engine.dtype.value
        if dtype == "auto":
            # Where bfloat16 would be emulated, float16 keeps the size and the speed.
            emulated = self.compute.dtype == "float32"
            dtype = engine.traits.dense_without_bfloat16 if emulated else subject.dtype
        own = engine.traits.own_arithmetic
        if for_quality and own and self.config.eval.dtype is EvalDtype.auto:
            parameters = model_facts(self.config.model).parameters
            wide = self.compute.device == "cpu" and self.compute.holds_float32(parameters)
            dtype = own.dense_on_cpus if wide else subject.dtype
        converted = replace(GGUF.convert(self, subject, dtype), kv_cache=subject.kv_cache)
        # What speed is measured of is what would be served.
        if not for_quality or subject.directory not in self.converted:
            self.converted[subject.directory] = converted.directory
        return converted

    def load(
        self,
        subject: Checkpoint,
        engine: Engine,
        dtype: str | None = None,
        device: str | None = None,
    ) -> LoadRequest:
        """How a stage asks for the subject in an engine.

        Args:
            subject: What to load.
            engine: Which one and its settings.
            dtype: Arithmetic where quality is measured; ``None`` for that in which it is timed.
            device: Where to; the engine's device by default.
        """
        compute = self.on(device)
        wanted = dtype or compute.dtype
        return LoadRequest(
            checkpoint=subject.directory,
            checkpoint_format=subject.format,
            engine=engine,
            device=compute.device,
            # Libraries go by config.json, which may claim another type than the tensors have.
            dtype=subject.dtype if wanted == AUTO and not subject.told_right else wanted,
            trust_remote_code=self.config.model.trust_remote_code,
            wide_logits=dtype is not None,
            kv_cache=subject.kv_cache,
        )

    def environment(
        self, need: str, named: str | None = None, device: str | None = None
    ) -> ReadyEnvironment:
        """The environment that provides what is needed, or the one that was named.

        Args:
            need: Backend, engine or whatever else environments provide.
            named: The environment's name, where the configuration gives one.
            device: Where it is to compute; the engine's device by default.
        """
        device = device or self.compute.device
        chosen = choose(self.config.environment, need, device, named)
        return self.session.environment(chosen, device)

    def obtain(
        self,
        stage: "Stage[Request, Result]",
        request: Request,
        environment: ReadyEnvironment,
        *,
        title: str,
        determinants: dict[str, Any],
        reuse: bool = True,
        shared: Checkpoint | None = None,
        inspection: Callable[[Path], WorkerTask[Any]] | None = None,
        device: str | None = None,
    ) -> StageResult[Result]:
        """A stage's result: from the store, or made now by a worker.

        Args:
            stage: Which.
            request: What its work is given.
            environment: Where it runs.
            title: What it is called in the terminal and the log.
            determinants: JSON values that decide its result: whatever of the request changes it,
                keys of the results it draws on, versions of the packages it computes with. The
                environment's patches are added.
            reuse: Whether one that another sweep measured will do.
            shared: See ``task``.
            inspection: See ``StageJob.inspection``.
            device: See ``task``.
        """
        if stage.name in names(Kind.stage) and (own := versions_of(Kind.stage, stage.name)):
            versions = {**determinants.get("versions", {}), **own}
            determinants = {**determinants, "versions": versions}
        if environment.patches:
            determinants = {**determinants, "patches": list(environment.patches)}
        if not reuse:
            determinants = {**determinants, "measured_in": self.sweep}
        task = self.task(stage, request, environment, shared, device)
        force = stage.name in self.config.force
        return self.session.obtain(StageJob(title, task, determinants, force, inspection))

    def task(
        self,
        stage: "Stage[Request, Result]",
        request: Request,
        environment: ReadyEnvironment,
        shared: Checkpoint | None = None,
        device: str | None = None,
    ) -> WorkerTask[Result]:
        """A stage's work in an environment, with this configuration's threads.

        Args:
            stage: Which.
            request: What its work is given.
            environment: Where it runs.
            shared: What ``request.load`` loads and the next task may use, if it is the same. Tasks
                that measure memory load for themselves.
            device: Where to compute; the engine's device by default. On a CPU no GPU is found.
        """
        model = None
        if shared is not None:
            loading: Any = request
            # What a plug-in loaded before it was edited is not used again.
            plugin = versions_of(Kind.engine, loading.load.engine.name)
            loaded = [shared.identity, to_json(loading.load), self.compute.threads, plugin]
            model = sha256_of_json(loaded)
        gpus = self.on(device).gpus
        return WorkerTask(stage, request, environment, self.compute.threads, model, gpus)


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
    without = {*_RESOLVED, *load.engine.decides_nothing}
    settings = {key: value for key, value in to_json(load.engine).items() if key not in without}
    found = {"engine": settings, "device": load.device, "dtype": load.dtype}
    # Results of versions without this setting still count.
    return found if load.kv_cache.is_auto else {**found, "kv_cache": to_json(load.kv_cache)}


def file_state(path: Path) -> list[Any]:
    """Names, sizes and times of a file or of a folder's files but byte code, for a key."""
    return [[*state] for state in states(path) if Path(state[0]).suffix != ".pyc"]
