"""Tracker ``wandb``: Weights & Biases, one run per job, offline unless set otherwise."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from runner.config.schema.tracker import Tracker, TrackerMode
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.sensitivity import STAGE as SENSITIVITY
from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.reporting.display import Display
from runner.reporting.rows import Row
from runner.reporting.tracking.alerts import Alert, alert_of_run, alert_of_sweep
from runner.reporting.tracking.base import (
    SweepEnd,
    TrackerImplementation,
    stage_metrics,
    stage_words,
)
from runner.reporting.tracking.progress import Progress
from runner.reporting.tracking.tables import (
    Cells,
    runs_table,
    samples_table,
    sensitivity_table,
    tasks_table,
)
from runner.reporting.tracking.wandb_artifacts import (
    MOST_NAME,
    artifact_name,
    checkpoint_artifact,
    result_artifact,
    shortened,
)
from runner.store.records import RunRecord, StageRecord, Status
from runner.util.redact import redact
from runner.util.surroundings import own_home

_MOST_TAG = 64
"""Characters of a tag (wandb's own check), and of a type of job."""
_MOST_TITLE = 63
"""Characters of an alert's title."""


def start(config: Tracker, record: RunRecord, display: Display) -> "WandbTracker":
    """Open a W&B run. Without an answer from the server in time, it is kept offline."""
    return WandbTracker(_open(config, display, **_described(config, record)), config)


def summarise(config: Tracker, end: SweepEnd, display: Display) -> None:
    """A run of its own for a whole sweep: its table, its figures, the alert that is wanted."""
    import wandb

    run = _open(
        config,
        display,
        id=run_id(config, end.sweep, "summary"),
        name=shortened(f"{end.sweep} summary", MOST_NAME),
        group=shortened(redact(config.group or end.sweep), MOST_NAME),
        job_type="sweep",
        tags=_tags(redact([*config.tags, "summary"])),
        config={"sweep": end.sweep},
    )
    run.log({"runs": _table(runs_table(end.rows)), **_plots(end.rows)})
    for status in Status:
        count = sum(record.status is status for record in end.records)
        run.summary[f"runs/{status.value}"] = count
    artifact = wandb.Artifact(artifact_name("answer", end.sweep), type="answer")
    for path in end.files:
        artifact.add_file(str(path))
        if path.suffix == ".png":
            run.log({f"figures/{path.stem}": wandb.Image(str(path))})
    run.log_artifact(artifact)
    _send(run, alert_of_sweep(config.alerts, end))
    failed = any(not record.status.without_fault for record in end.records)
    run.finish(exit_code=1 if failed else 0)


def _send(run: Any, alert: Alert | None) -> None:
    if alert is not None:
        title = shortened(alert.title, _MOST_TITLE)
        run.alert(title, alert.text, level="ERROR" if alert.is_error else "INFO")


def run_id(config: Tracker, sweep: str, run: str) -> str:
    """The W&B id of a run: the same when it is started again, another for every other one."""
    # Sweeps may be named alike in stores that log to one project.
    identity = f"{Path(config.directory).expanduser().resolve()}\n{sweep}\n{run}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _tags(tags: list[str]) -> list[str]:
    return [shortened(tag, _MOST_TAG) for tag in dict.fromkeys(tags) if tag]


def _described(config: Tracker, record: RunRecord) -> dict[str, Any]:
    return {
        "id": run_id(config, record.sweep, record.run),
        "name": shortened(record.run, MOST_NAME),
        "group": shortened(redact(config.group or record.sweep), MOST_NAME),
        "job_type": shortened(redact(config.job_type), _MOST_TAG),
        "tags": _tags(redact([record.model, record.label, *config.tags])),
        "notes": redact(config.notes),
        "config": redact(
            {
                **record.config,
                "sweep": record.sweep,
                # Whole, whatever W&B has no room for.
                "run": record.run,
                "label": record.label,
                "overrides": record.overrides,
                "versions": record.versions,
                "host": record.host,
            }
        ),
    }


def _open(tracker: Tracker, display: Display, **described: Any) -> Any:
    """Begin a run; an online one that gets no answer becomes an offline one."""
    directory = Path(tracker.directory)
    directory.mkdir(parents=True, exist_ok=True)
    if own_home() is None:
        os.environ["HOME"] = str(directory)
    import wandb

    # Otherwise artifacts and caches are staged in the home directory.
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        os.environ.setdefault(name, str(directory))
    # Settings are read from `wandb/settings` below it: not from the working directory's.
    os.environ.setdefault("WANDB_DIR", str(directory.absolute()))
    logging.getLogger("wandb").setLevel(logging.ERROR)

    def begin(mode: Any) -> Any:
        return wandb.init(
            project=tracker.project,
            entity=tracker.entity,
            dir=str(directory),
            mode=mode,
            reinit="finish_previous",
            # A run started again goes on where it was; offline, `wandb sync` joins the parts.
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(
                silent=True,
                init_timeout=tracker.connect_timeout_seconds,
                console="off",
                disable_git=True,
                disable_code=True,
                # Its own record of the host holds the command line as it was typed.
                x_disable_meta=True,
                # The work is done in workers, which are this process's descendants.
                x_stats_track_process_tree=True,
                x_stats_sampling_interval=tracker.system_interval_seconds,
            ),
            **described,
        )

    if tracker.mode is TrackerMode.online:
        try:
            return begin("online")
        except Exception as error:
            display.line(
                f"  warning: W&B is unreachable ({type(error).__name__}); the run is kept offline, "
                "upload it later with `runner track sync`",
                style="yellow",
            )
            # Its service still holds the run's id for the attempt that failed.
            wandb.teardown()
    return begin("offline")


class WandbTracker:
    """One W&B run."""

    def __init__(self, run: Any, config: Tracker) -> None:
        """Log to a run that has begun."""
        self._step = 0
        self._config = config
        self._run = run
        self._progress = Progress()

    def log_stage(self, stage: StageRecord) -> None:
        """One step a stage."""
        self._step += 1
        metrics: dict[str, Any] = stage_metrics(stage)
        metrics[f"{stage.stage}/reused"] = stage.reused
        metrics |= stage_words(stage)
        prefix = "" if stage.subject == "recipe" else f"{stage.subject}/"
        if stage.stage == BENCH.name:
            metrics[f"{prefix}bench/samples"] = _table(samples_table(stage.read(BENCH)))
        if stage.stage == TASKS.name:
            metrics[f"{prefix}tasks/scores"] = _table(tasks_table(stage.read(TASKS)))
        if stage.stage == SENSITIVITY.name:
            measured = stage.read(SENSITIVITY)
            name = f"sensitivity/{measured.grain.value}"
            metrics[name] = _table(sensitivity_table(measured))
        self._run.log(metrics, step=self._step)

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """A step every few seconds."""
        if metrics := self._progress.metrics(title, done, total, what):
            self._step += 1
            self._run.log(metrics, step=self._step)

    def finish(self, record: RunRecord) -> None:
        """Write the summary and end the run with the exit code that its status means."""
        self._run.tags = (*(self._run.tags or ()), record.status.value)
        self._run.summary["status"] = record.status.value
        self._run.summary["reason"] = record.reason
        self._run.summary["warnings"] = record.warnings
        if (checkpoint := checkpoint_artifact(record, self._config.checkpoints)) is not None:
            self._run.log_artifact(checkpoint)
        if record.stages:
            self._run.log_artifact(result_artifact(record))
        _send(self._run, alert_of_run(self._config.alerts, record))
        self._run.finish(exit_code=0 if record.status.without_fault else 1)


def _plots(rows: list[Row]) -> dict[str, Any]:
    """Quality over size and over speed, as charts of W&B's; none where nothing was measured."""
    import wandb

    plots = {}
    for name, field in (("size", "checkpoint_bytes"), ("speed", "decode_tokens_per_second")):
        measured = [r for r in rows if None not in (getattr(r, field), r.perplexity)]
        if measured:
            points = [[getattr(r, field), r.perplexity, r.recipe, r.engine] for r in measured]
            table = wandb.Table(columns=[field, "perplexity", "recipe", "engine"], data=points)
            title = f"Perplexity over {field.replace('_', ' ')}"
            plots[f"plots/quality_over_{name}"] = wandb.plot.scatter(
                table, field, "perplexity", title
            )
    return plots


def _table(cells: Cells) -> Any:
    import wandb

    columns, rows = cells
    return wandb.Table(columns=[*columns], data=rows, allow_mixed_types=True)


TRACKER = TrackerImplementation(start, summarise)
