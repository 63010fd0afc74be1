"""What a stage is: everything that is particular to it, declared in one place.

The table, the trackers, the page, dry runs, the store and the order of a run ask the declaration;
nothing else in the runner lists stages by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
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
"""What an environment has to provide for stages that load models themselves."""
Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass
class StageContext:
    """What a stage's work in a worker process may use besides its request."""

    output: Path
    """Directory to write files into; it becomes the finished result."""
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


class Place(Enum):
    """Where a stage's work is done."""

    worker = "worker"
    """In a process of an environment's interpreter."""
    control = "control"
    """In the control process, which imports no torch."""
    sweep = "sweep"
    """In the control process, once for a whole sweep, from records alone."""


@dataclass(frozen=True)
class Cost:
    """What a stage takes, roughly: for dry runs where no earlier run tells."""

    seconds: float | None = None
    """Of a stage that loads no model; the other fields do not count then."""
    tokens: float = 20_000.0
    """Tokens that go through the model's forward pass, many at once."""
    decoded_tokens: float = 0.0
    """Tokens generated one after the other: each reads all weights."""
    models: int = 1
    """Models in memory at once."""
    converted_bits: float = 0.0
    """Bits a parameter that are rounded or converted."""
    stored_bits: float = 0.0
    """Bits a parameter that are written to disk."""


class Stage(Generic[Request, Result]):
    """One stage: its types, what it needs, what it gives, and how it is carried out.

    A module exposes an instance as ``STAGE``. Class attributes declare; those without a value have
    to be given. ``run`` is called in a worker, whose environment may lack what the control process
    has: imports of both sides' heavy parts belong inside methods.
    """

    name: str
    """Of the stage, of its module and of its section in the configuration."""
    schema_version: int
    """Raised when the meaning of the result changes; old results are then not reused."""
    request: type[Request]
    """Dataclass of what the work is given."""
    result: type[Result]
    """Dataclass of what the work finds."""
    older: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
    """Earlier schema versions that can still be read, and what makes their JSON today's."""

    section: type[Any] | None = None
    """Dataclass of a section of the configuration that a plug-in's stage adds."""
    place: Place = Place.worker
    # What a stage needs is told by those that do without, so that a new one needs it all.
    loads_model: bool = True
    """Whether a run that goes through it needs the model's weights."""
    asks_engine: bool = True
    """Whether it has the engine load what the run looks at."""
    runs_beside: bool = False
    """Whether its work needs so little memory that another process may keep a model meanwhile."""
    measures: bool = False
    """Whether it reads clocks: a sweep measures anew, unless its section's ``reuse`` is true."""
    follows: tuple[str, ...] = ("quantize",)
    """Stages that go before it in runs which have both: it uses what they give."""
    retention: Retention = Retention.needed
    headline: tuple[str, ...] = ()
    """Of ``metrics``: those with a column in the table and on the page, and known to claims."""

    def run(self, request: Request, context: StageContext) -> Result:
        """Do the work, in a worker process."""
        raise NotImplementedError(f"stage {self.name} does no work in a worker")

    def prepare(self, run: "RunContext") -> None:
        """See to what is quick and may end the run, before any stage's heavy work begins."""

    def carry_out(self, run: "RunContext") -> None:
        """Obtain the stage's results and file them with ``run.keep``.

        By default: what ``obtain`` finds of each checkpoint, the unquantized model first.
        """
        for whose, checkpoint in run.checkpoints():
            run.keep(self.name, whose, self.obtain(run, checkpoint))

    def obtain(self, run: "RunContext", checkpoint: "Checkpoint") -> "StageResult[Result]":
        """The stage's result for one checkpoint, from the store or a worker."""
        raise NotImplementedError(f"stage {self.name} says not how its request is made")

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """Stage and checkpoint's label of each result that a run is going to file."""
        return [(self.name, label) for label in run.both]

    def check(self, config: "Config", facts: "Facts") -> "Sequence[Verdict]":
        """Verdicts on a configuration that asks for this stage, before any work."""
        return ()

    def metrics(self, result: Result) -> dict[str, float | None]:
        """Numbers for trackers, under names that carry unit and protocol.

        By default every number among the result's fields, as ``stage/field``.
        """
        if not is_dataclass(result):
            return {}
        metrics = {one.name: getattr(result, one.name) for one in fields(result)}
        return {
            f"{self.name}/{name}": value
            for name, value in metrics.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def words(self, result: Result) -> dict[str, str]:
        """What is no number and yet decides what its numbers compare with, by its name."""
        return {}

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """What it takes, roughly."""
        return Cost()

    def stand_in(self) -> Result | None:
        """What a dry run goes on with where the result is not there; ``None``: it ends there."""
        return None

    def read(self, content: dict[str, Any], version: int | None = None) -> Result:
        """The result that a JSON file or record holds.

        Args:
            content: As ``to_json`` made it of a result; further keys are passed over.
            version: Its schema version; ``None`` where a record does not say, as those before
                0.2 did, whose results are of this version.

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
