"""A stage's job for a worker, and its result."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from runner.environments.ready import ReadyEnvironment
from runner.errors import NotThere
from runner.store.objects import Address
from runner.util.gpus import Gpu

if TYPE_CHECKING:
    from runner.pipeline.stages.base import Stage

Result = TypeVar("Result")


@dataclass(frozen=True)
class StageResult(Generic[Result]):
    """A finished result of a stage, made now or found in the store."""

    title: str
    stage: "Stage[Any, Result]"
    address: Address
    directory: Path
    content: dict[str, Any] | None
    """Its JSON form; ``None`` in a dry run, where it is not there yet."""
    resources: dict[str, Any]
    environment: str
    versions: dict[str, str]
    """Of the packages that determine it."""
    reused: bool
    seconds: float

    @cached_property
    def known(self) -> Result | None:
        """The result; in a dry run what stands in for one that is not there, if anything."""
        if self.content is None:
            return self.stage.stand_in()
        return self.stage.read(self.content, self.stage.schema_version)

    @property
    def result(self) -> Result:
        """The result.

        Raises:
            NotThere: In a dry run, where nobody has made it yet.
        """
        if (known := self.known) is None:
            raise NotThere(f"later stages need {self.title}, which does not exist yet")
        return known


@dataclass(frozen=True)
class WorkerTask(Generic[Result]):
    """A stage's work and where it is done."""

    stage: "Stage[Any, Result]"
    request: Any
    """The stage's request dataclass."""
    environment: ReadyEnvironment
    threads: int
    model: str | None = None
    """Names the model it computes with, for the next task with the same one."""
    gpus: tuple[Gpu, ...] = ()
    """Those that it finds; no others."""


@dataclass(frozen=True)
class StageJob(Generic[Result]):
    """A task, and all that its result depends on."""

    title: str
    task: WorkerTask[Result]
    determinants: dict[str, Any]
    """JSON values that determine the result, besides the stage and its schema's version."""
    force: bool = False
    inspection: Callable[[Path], WorkerTask[Any]] | None = None
    """Given where the finished files lie, a task that looks at them. If it fails nothing is
    kept; else what it finds becomes a field of the result, named as its stage."""

    @property
    def address(self) -> Address:
        """Where the result lies in a store."""
        stage = self.task.stage
        return Address.of(stage.name, {"schema_version": stage.schema_version, **self.determinants})
