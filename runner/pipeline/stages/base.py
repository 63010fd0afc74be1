"""The declaration of a stage: everything specific to it, in one place.

The table, the trackers, the page, dry runs, the store and the order of a run ask the declaration;
nothing else in the runner lists stages by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from runner.errors import StageError
from runner.store.inventory import Retention
from runner.util.serialise import from_json

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.engines.base import LoadedModel
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.context import Expected, RunContext
    from runner.pipeline.stage_job import StageResult
    from runner.validation.context import Facts
    from runner.validation.verdict import Verdict

TRANSFORMERS = "transformers"
"""What an environment must provide for stages that load models themselves."""
Cells = tuple[list[str], list[list[Any]]]
"""A table for trackers: names of columns, and the rows below them."""
Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass
class StageContext:
    """What a stage may use in a worker process besides its request."""

    output: Path
    """Directory for the stage's files; it becomes the finished result."""
    partial: Path
    """Directory for finished units of long work. An attempt that is killed leaves it to the next
    attempt at the same result; deleted once the result exists (``runner.store.partial_results``).
    """
    cache: Path
    threads: int
    progress: Callable[[int, int, str], None]
    loaded: Callable[[Callable[[], "LoadedModel"]], "LoadedModel"]
    """Loads a model by the function it is given, unless an earlier job of this process has. The
    stage does not close it."""


def quantile_rows(of: str, metric: str, spread: Any) -> list[list[Any]]:
    """Lines of a table of quantiles, of an object that has them as ``p50``, ``p90``, ``p99``."""
    return [[of, metric, name, getattr(spread, name)] for name in ("p50", "p90", "p99")]


class Place(Enum):
    """Where a stage runs."""

    worker = "worker"
    """In a process of an environment's interpreter."""
    control = "control"
    """In the control process, which imports no torch."""
    sweep = "sweep"
    """In the control process, once for a whole sweep, from records alone."""


@dataclass(frozen=True)
class Cost:
    """Rough cost of a stage, for dry runs without an earlier run to estimate from."""

    seconds: float | None = None
    """For a stage that loads no model; the other fields are then ignored."""
    tokens: float = 20_000.0
    """Tokens that go through the model's forward pass, many at once."""
    decoded_tokens: float = 0.0
    """Tokens generated one at a time; each reads all weights."""
    models: int = 1
    """Models in memory at once."""
    converted_bits: float = 0.0
    """Bits per parameter that are rounded or converted."""
    stored_bits: float = 0.0
    """Bits per parameter that are written to disk."""


class Stage(Generic[Request, Result]):
    """One stage: its types, its dependencies, its results, and how it runs.

    A module exposes an instance as ``STAGE``. Class attributes declare it; those without a value
    are required. ``run`` is called in a worker, whose environment may lack what the control process
    has: imports of both sides' heavy parts belong inside methods.
    """

    name: str
    """Name of the stage, its module and its section in the configuration."""
    schema_version: int
    """Incremented when the meaning of the result changes; older results are then not reused."""
    request: type[Request]
    """Dataclass of the stage's input."""
    result: type[Result]
    """Dataclass of the stage's result."""
    older: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
    """Earlier schema versions that can be read, with a function that updates their JSON."""

    section: type[Any] | None = None
    """Dataclass of a section of the configuration that a plug-in's stage adds."""
    place: Place = Place.worker
    # The defaults need everything, so that a new stage opts out.
    loads_model: bool = True
    """Whether it needs the model's weights."""
    asks_engine: bool = True
    """Whether it loads the checkpoint in the engine."""
    runs_beside: bool = False
    """Whether it needs so little memory that another process may keep a model loaded."""
    measures: bool = False
    """Whether it times: a sweep then measures again, unless its section sets ``reuse``."""
    follows: tuple[str, ...] = ("quantize",)
    """Stages that precede it in a run with both: it uses their results."""
    retention: Retention = Retention.needed
    headline: tuple[str, ...] = ()
    """Metrics with a column in the table and on the page, and available to claims."""

    def run(self, request: Request, context: StageContext) -> Result:
        """Run the stage, in a worker process."""
        raise NotImplementedError(f"stage {self.name} does not implement run")

    def prepare(self, run: "RunContext") -> None:
        """Do quick checks that may end the run, before any stage's heavy work starts."""

    def carry_out(self, run: "RunContext") -> None:
        """Obtain the stage's results and file them with ``run.keep``.

        By default, calls ``obtain`` for each checkpoint, the unquantized model first.
        """
        for whose, checkpoint in run.checkpoints():
            run.keep(self.name, whose, self.obtain(run, checkpoint))

    def obtain(self, run: "RunContext", checkpoint: "Checkpoint") -> "StageResult[Result]":
        """The stage's result for one checkpoint, from the store or a worker."""
        raise NotImplementedError(f"stage {self.name} does not implement obtain")

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """Stage and checkpoint label of each result that a run will file."""
        return [(self.name, label) for label in run.both]

    def check(self, config: "Config", facts: "Facts") -> "Sequence[Verdict]":
        """Verdicts on a configuration that asks for this stage, before any work."""
        return ()

    def metrics(self, result: Result) -> dict[str, float | None]:
        """Numbers for trackers: ``stage/name``, or ``stage/name/which`` where there are several.

        A name carries its unit; ``which`` is a protocol, a batch size, a task. By default every
        number among the result's fields, as ``stage/field``.
        """
        return {
            f"{self.name}/{name}": value
            for name, value in vars(result).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def tables(self, result: Result) -> dict[str, Cells]:
        """Tables for trackers, by name: what is too much for single numbers, such as quantiles."""
        return {}

    def words(self, result: Result) -> dict[str, str]:
        """Texts by name that determine which results its numbers can be compared with."""
        return {}

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Rough cost of the stage."""
        return Cost()

    def stand_in(self) -> Result | None:
        """Result that a dry run continues with if there is none yet; ``None`` ends it there."""
        return None

    def read(self, content: dict[str, Any], version: int | None = None) -> Result:
        """Read a result from a JSON file or record.

        Args:
            content: A result as ``to_json`` wrote it; unknown keys are ignored.
            version: Its schema version; ``None`` for records from before 0.2, which do not have
                one and whose results have this version.

        Raises:
            StageError: It is of a version that cannot be read, or not of the version it claims.
        """
        if version is not None and version != self.schema_version:
            if version not in self.older:
                known = ", ".join(map(str, sorted((*self.older, self.schema_version))))
                raise StageError(
                    f"the result of stage {self.name} has schema version {version}, and this "
                    f"version of the runner reads {known}: run it again, or read it with the "
                    "version that wrote it"
                )
            content = self.older[version](content)
        try:
            return from_json(self.result, content)
        except ValueError as error:
            first = str(error).partition("\n")[2].partition("\n")[0]
            raise StageError(
                f"the result of stage {self.name} cannot be read as schema version "
                f"{self.schema_version} ({first or error}): run it again, or read it with the "
                "version that wrote it"
            ) from error
