"""What a session reports to: a display and a tracker, which ``runner.reporting`` implements."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from runner.config.schema.tracker import Tracker
from runner.store.records import RunRecord, StageRecord


class StageDisplay(Protocol):
    """Progress of one stage."""

    @property
    def title(self) -> str:
        """Stage and what it works on."""

    def update(self, done: int, total: int, what: str) -> None:
        """Show how far the stage is."""


class Display(Protocol):
    """Shows a person what runs do."""

    def line(self, text: str, style: str | None = None, *, detail: bool = False) -> None:
        """Say something; a ``detail`` is left out where runs are drawn live."""

    def begin_run(
        self, record: RunRecord, folder: Path, expected_seconds: Sequence[float | None]
    ) -> None:
        """A run begins, with what is expected of each of its steps."""

    def step(self) -> None:
        """A step of the run is done."""

    def end_run(self, record: RunRecord, *, kept: bool = False) -> None:
        """The run is over, or was done before."""

    def stage(
        self, title: str, *, is_step: bool = False, expected_seconds: float | None = None
    ) -> AbstractContextManager[StageDisplay]:
        """Within the block a stage is worked on; a run is made up of those that are steps."""

    def close(self) -> None:
        """Nothing more will be said."""


class RunTracker(Protocol):
    """Follows one run."""

    def log_stage(self, stage: StageRecord) -> None:
        """A stage has a result."""

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """A stage is so far; called often. See ``runner.reporting.tracking.progress``."""

    def finish(self, record: RunRecord) -> None:
        """The run is over; called exactly once, however it ended."""


StartTracker = Callable[[Tracker, RunRecord], RunTracker]
"""Begins to follow a run with the tracker that a configuration names."""
