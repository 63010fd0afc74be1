"""Tells the tracker of checkpoints that passed the gate."""

from collections.abc import Sequence

from runner.config.schema.tracker import Tracker
from runner.reporting.display import Display
from runner.reporting.tracking.service import TrackingService
from runner.store.records import RunRecord


def promote(tracker: Tracker, records: Sequence[RunRecord]) -> None:
    """Mark the checkpoints of finished runs as promoted."""
    service = TrackingService(Display(live=False))
    for record in records:
        service.promote(tracker, record)
    service.close()
