"""Models that a worker process keeps in memory between jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> None:
        """Free what is held."""


Model = TypeVar("Model", bound=_Closable)


@dataclass
class ModelCache:
    """At most one loaded model, and what the process had in memory before its first job."""

    model: _Closable | None = None
    imports_memory_bytes: int | None = None

    def loaded(self, load: Callable[[], Model]) -> Model:
        """What an earlier job of this process loaded, or what ``load`` gives now.

        Only jobs that ask for the same model are handed to the same process.
        """
        if self.model is None:
            self.model = load()
        model: Model = self.model  # type: ignore[assignment]
        return model

    def close(self) -> None:
        """Let go of the model, processes of its own included."""
        if self.model is not None:
            self.model.close()
        self.model = None
