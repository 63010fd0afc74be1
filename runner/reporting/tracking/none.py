"""Tracker ``none``: the store's records are enough."""

from runner.config.schema.tracker import Tracker
from runner.reporting.display import Display
from runner.reporting.tracking.base import TrackerImplementation
from runner.store.records import RunRecord, StageRecord


class NoTracker:
    """Logs nothing."""

    def log_stage(self, stage: StageRecord) -> None:
        """Nothing."""

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """Nothing."""

    def finish(self, record: RunRecord) -> None:
        """Nothing."""


def start(config: Tracker, record: RunRecord, display: Display) -> NoTracker:
    """Follow nothing."""
    return NoTracker()


TRACKER = TrackerImplementation(
    start,
    # Where other trackers' runs lie.
    reads=frozenset({"directory"}),
)
