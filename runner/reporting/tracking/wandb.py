"""Tracker ``wandb``: Weights & Biases, one run per job, offline unless set otherwise."""

import time
from typing import Any

from runner.config.schema.tracker import Tracker
from runner.reporting.tracking.alerts import alert_of_run
from runner.reporting.tracking.base import (
    Log,
    TrackerImplementation,
    named,
    stage_metrics,
    stage_tables,
    stage_words,
)
from runner.reporting.tracking.described import configuration, summary
from runner.reporting.tracking.progress import Progress
from runner.reporting.tracking.wandb_artifacts import (
    CANDIDATE,
    LATEST,
    MOST_NAME,
    PROMOTED,
    checkpoint_artifact,
    pins_artifact,
    result_artifact,
    shortened,
)
from runner.reporting.tracking.wandb_run import (
    gate_name,
    open_run,
    run_id,
    send,
    settled,
    table,
    tag,
    tags,
)
from runner.reporting.tracking.wandb_sweep import summarise
from runner.store.records import RunRecord, StageRecord
from runner.util.redact import redact

_SECONDS, _STAGE = "run/elapsed_seconds", "run/stage"
"""What metrics are drawn over: progress over time, results over the stages that gave them."""


def prepare(config: Tracker) -> None:
    """Import W&B and start its service, which all runs share."""
    settled(config).setup()


def start(config: Tracker, record: RunRecord, log: Log) -> "WandbTracker":
    """Open a W&B run. Without an answer from the server in time, it is kept offline."""
    return WandbTracker(open_run(config, log, **_described(config, record)), config)


def promote(config: Tracker, record: RunRecord, log: Log) -> None:
    """Give the run's checkpoint the alias ``promoted``, and the registry a link to it."""
    artifact = checkpoint_artifact(record, config.checkpoints)
    if artifact is None:
        log.line(
            f"  warning: {record.sweep}/{record.run} has no checkpoint in the store to promote",
            style="yellow",
        )
        return
    described = _described(config, record)
    name = shortened(gate_name(record.run), MOST_NAME)
    described |= {
        "id": run_id(config, record.sweep, gate_name(record.run)),
        "name": name,
        "job_type": "gate",
    }
    run = open_run(config, log, **described)
    kept = run.log_artifact(artifact, aliases=[LATEST, CANDIDATE, PROMOTED])
    if config.registry is not None:
        run.link_artifact(kept, config.registry, aliases=[PROMOTED])
    run.finish()


class WandbTracker:
    """One W&B run."""

    def __init__(self, run: Any, config: Tracker) -> None:
        """Log to a run that has begun."""
        self._stage = 0
        self._start = time.monotonic()
        self._config = config
        self._run = run
        self._progress = Progress()
        self._sections: set[str] = set()
        run.define_metric("run/*", hidden=True, summary="none")
        run.define_metric("progress/*", step_metric=_SECONDS, summary="none")

    def log_stage(self, stage: StageRecord) -> None:
        """One step a stage."""
        self._stage += 1
        if stage.stage not in self._sections:
            self._sections.add(stage.stage)
            self._run.define_metric(f"{stage.stage}/*", step_metric=_STAGE, summary="none")
        metrics: dict[str, Any] = {_STAGE: self._stage, **stage_metrics(stage)}
        metrics[named(stage, "reused")] = stage.reused
        metrics |= stage_words(stage)
        tables = {name: table(cells) for name, cells in stage_tables(stage).items()}
        self._run.log(metrics | tables)
        if tables:
            # Where panels of tables look for them.
            self._run.summary.update(tables)

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """A step every few seconds."""
        if metrics := self._progress.metrics(title, done, total, what):
            self._run.log({_SECONDS: time.monotonic() - self._start, **metrics})

    def finish(self, record: RunRecord) -> None:
        """Write the summary and end the run with the exit code that its status means."""
        self._run.tags = (*(self._run.tags or ()), record.status.value)
        self._run.summary.update(redact(summary(record)))
        if (checkpoint := checkpoint_artifact(record, self._config.checkpoints)) is not None:
            self._run.log_artifact(checkpoint, aliases=[LATEST, CANDIDATE])
        if record.stages:
            self._run.log_artifact(result_artifact(record))
        if (pins := pins_artifact(record)) is not None:
            self._run.log_artifact(pins)
        send(self._run, alert_of_run(self._config.alerts, record))
        self._run.finish(exit_code=0 if record.status.without_fault else 1)


def _described(config: Tracker, record: RunRecord) -> dict[str, Any]:
    return {
        "id": run_id(config, record.sweep, record.run),
        "name": shortened(record.run, MOST_NAME),
        "group": shortened(redact(config.group or record.sweep), MOST_NAME),
        "job_type": tag(redact(config.job_type)),
        "tags": tags(redact([record.model, record.label, *config.tags])),
        "notes": redact(config.notes),
        "config": redact(configuration(record)),
    }


TRACKER = TrackerImplementation(
    start,
    summarise,
    promote,
    prepare,
    reads=frozenset(
        {
            "alerts", "checkpoints", "connect_timeout_seconds", "directory", "entity", "group",
            "job_type", "mode", "notes", "project", "registry", "system_interval_seconds", "tags",
        }
    ),
)  # fmt: skip
