"""Tracker ``trackio``: local first, a SQLite file and a dashboard (``trackio show``), no account.

It is an extra (``pip install 'quant-runner[trackio]'``): some of its pins are older than ours.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.config.schema.tracker import AlertOn, Tracker
from runner.pipeline.stages.base import Cells
from runner.reporting.flatten import flatten
from runner.reporting.tracking.alerts import alert_of_run, alert_of_sweep
from runner.reporting.tracking.base import (
    Log,
    SweepEnd,
    TrackerImplementation,
    require_library,
    stage_metrics,
    stage_tables,
    stage_words,
)
from runner.reporting.tracking.described import configuration, summary
from runner.reporting.tracking.progress import Progress
from runner.reporting.tracking.tables import runs_table
from runner.store.records import RunRecord, StageRecord
from runner.util.redact import redact

_LIBRARY = ("trackio", "pip install trackio")


def start(config: Tracker, record: RunRecord, log: Log) -> "TrackioTracker":
    """Open a run, or the same one again when it is started again."""
    described = flatten(configuration(record)) | {
        "sweep": record.sweep,
        "tags": list(config.tags),
        "notes": config.notes,
    }
    group = config.group or record.sweep
    run = _open(config, f"{record.sweep}/{record.run}", group, described)
    return TrackioTracker(run, config.alerts)


def summarise(config: Tracker, end: SweepEnd, log: Log) -> None:
    """A run of its own for a whole sweep: verdict, rows, and the alert that is wanted."""
    run = _open(config, f"{end.sweep}/summary", config.group or end.sweep, {"sweep": end.sweep})
    run.log({"answer/rows": _table(runs_table(end.rows)), **redact(end.verdict())})
    if (alert := alert_of_sweep(config.alerts, end)) is not None:
        run.alert(alert.title, alert.text)
    run.finish()


class TrackioTracker:
    """One trackio run."""

    def __init__(self, run: Any, alerts: Sequence[AlertOn]) -> None:
        """Log to a run that has begun."""
        self._step = 0
        self._alerts = alerts
        self._run = run
        self._progress = Progress()

    def log_stage(self, stage: StageRecord) -> None:
        """One step a stage."""
        self._step += 1
        tables = {name: _table(cells) for name, cells in stage_tables(stage).items()}
        self._run.log({**stage_metrics(stage), **stage_words(stage), **tables}, step=self._step)

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """A step every few seconds."""
        if metrics := self._progress.metrics(title, done, total, what):
            self._step += 1
            self._run.log(metrics, step=self._step)

    def finish(self, record: RunRecord) -> None:
        """Say how the run ended."""
        self._run.log(redact(summary(record)), step=self._step + 1)
        if (alert := alert_of_run(self._alerts, record)) is not None:
            self._run.alert(alert.title, alert.text)
        self._run.finish()


def _table(cells: Cells) -> Any:
    import trackio

    names, lines = cells
    return trackio.Table(data=[dict(zip(names, line, strict=True)) for line in lines])


def _open(config: Tracker, name: str, group: str, described: dict[str, Any]) -> Any:
    require_library(*_LIBRARY)
    directory = Path(config.directory) / "trackio"
    directory.mkdir(parents=True, exist_ok=True)
    os.environ["TRACKIO_DIR"] = str(directory)
    import trackio

    return trackio.init(
        project=config.project,
        name=redact(name),
        group=redact(group),
        config=redact(described),
        resume="allow",
        embed=False,
        auto_log_gpu=False,
    )


TRACKER = TrackerImplementation(
    start,
    summarise,
    reads=frozenset({"alerts", "directory", "group", "notes", "project", "tags"}),
    library=_LIBRARY,
)
