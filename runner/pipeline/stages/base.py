"""The shape every stage has."""

from typing import Any, Protocol

from runner.pipeline.worker.job import StageContext


class Stage(Protocol):
    """A step with a typed request and a typed result."""

    @property
    def name(self) -> str:
        """Name of the stage and of its module."""

    @property
    def schema_version(self) -> int:
        """Raised when the meaning of the result changes; old results are then not reused."""

    @property
    def request(self) -> type[Any]:
        """Dataclass of what the stage is given."""

    @property
    def result(self) -> type[Any]:
        """Dataclass of what it finds."""

    def run(self, request: Any, context: StageContext) -> Any:
        """Do the work in a worker process."""
