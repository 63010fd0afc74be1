"""Tracker ``none``: the store's records are enough."""

from runner.reporting.tracking.base import TrackerImplementation

TRACKER = TrackerImplementation(
    None,
    # Where other trackers' runs lie.
    reads=frozenset({"directory"}),
)
