"""Tells the tracker of a checkpoint that passed the gate."""

from pathlib import Path

from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.reporting.display import Display
from runner.reporting.tracking.service import TrackingService
from runner.store.records import read_record


def promote(config: Config, sweep: str, run: str) -> None:
    """Mark the checkpoint of a finished run as promoted in the configured tracker.

    Args:
        config: Names the store and the tracker.
        sweep: The run's.
        run: Its folder's name.

    Raises:
        UsageError: The store has no such run.
    """
    runs = Path(config.store.root).expanduser().resolve() / "runs"
    record = read_record(runs / sweep / run / "record.json")
    if record is None:
        raise UsageError(f"there is no run {sweep}/{run} in {runs}")
    service = TrackingService(Display(live=False))
    service.promote(config.tracker, record)
    service.close()
