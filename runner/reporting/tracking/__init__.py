"""Trackers: one module each, found by its name.

A module that sets ``TRACKER`` (see ``base``) is one. How to add one, here or outside the package:
docs/extending.md. A tracker that breaks costs its log, never the run.
"""

from typing import TypeVar

from runner.config.schema.tracker import Tracker
from runner.pipeline.observers import RunTracker
from runner.reporting.tracking.base import Log, SweepEnd, TrackerImplementation, told_reason
from runner.store.records import RunRecord, StageRecord
from runner.util.extensions import Kind, find, names
from runner.util.redact import redact
from runner.util.serialise import from_json, to_json

Masked = TypeVar("Masked", Tracker, RunRecord, StageRecord)


def tracker_names() -> list[str]:
    """Names of all trackers, plug-ins' included, sorted."""
    return names(Kind.tracker)


def find_tracker(name: str) -> TrackerImplementation:
    """The tracker called ``name``.

    Raises:
        UsageError: There is none, or it is a plug-in that cannot be loaded.
    """
    tracker: TrackerImplementation = find(Kind.tracker, name).load()
    return tracker


def start_tracker(config: Tracker, record: RunRecord, log: Log) -> RunTracker:
    """Begin to follow a run, in this very process: see ``service`` for one beside the work.

    Raises:
        UsageError: There is no such tracker, or it is a plug-in that cannot be loaded.
    """
    guarded = _Guarded(log)
    guarded.begin(find_tracker(config.name), _masked(config), record)
    return guarded


def summarise_sweep(config: Tracker, end: SweepEnd, log: Log) -> None:
    """Let the tracker say something of a finished sweep, where it can."""
    summarise = find_tracker(config.name).summarise
    if summarise is None:
        return
    try:
        summarise(_masked(config), end, log)
    except Exception as error:
        log.line(
            f"  warning: the sweep is not summarised in {config.name} ({told_reason(error)})",
            style="yellow",
        )


def promote_checkpoint(config: Tracker, record: RunRecord, log: Log) -> None:
    """Let the tracker mark the checkpoint of a run that passed the gate, where it keeps any."""
    promote = find_tracker(config.name).promote
    if promote is None:
        return
    try:
        promote(_masked(config), _masked(record), log)
    except Exception as error:
        log.line(
            f"  warning: the checkpoint is not promoted in {config.name} ({told_reason(error)})",
            style="yellow",
        )


def _masked(value: Masked) -> Masked:
    """Settings, or what is filed of a run, as a tracker may send them: without secrets."""
    masked: Masked = from_json(type(value), redact(to_json(value)))
    if isinstance(value, Tracker) and isinstance(masked, Tracker):
        masked.directory, masked.uri = value.directory, value.uri
    return masked


class _Guarded:
    """A tracker that is told no secrets, and whose failures become one warning."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tracker: RunTracker | None = None

    def begin(self, tracker: TrackerImplementation, config: Tracker, record: RunRecord) -> None:
        if tracker.start is None:
            return
        try:
            self._tracker = tracker.start(config, _masked(record), self._log)
        except Exception as error:
            self._give_up(error)

    def log_stage(self, stage: StageRecord) -> None:
        if self._tracker is not None:
            try:
                self._tracker.log_stage(_masked(stage))
            except Exception as error:
                self._give_up(error)

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        if self._tracker is not None:
            try:
                self._tracker.log_progress(redact(title), done, total, redact(what))
            except Exception as error:
                self._give_up(error)

    def finish(self, record: RunRecord) -> None:
        if self._tracker is not None:
            try:
                self._tracker.finish(_masked(record))
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._tracker = None
        self._log.line(
            f"  warning: tracking stopped ({told_reason(error)}); results are still in the store",
            style="yellow",
        )
