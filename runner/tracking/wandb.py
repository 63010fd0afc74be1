"""Tracker ``wandb``: Weights & Biases, one run a job, offline unless the user says otherwise."""

import logging
import os
from pathlib import Path
from typing import Any

from runner.config.tracker import Tracker, TrackerMode
from runner.display import Display
from runner.redact import redact
from runner.store.records import RunRecord, StageRecord, Status
from runner.tracking.base import stage_metrics

_EXIT_CODES = {Status.ok: 0, Status.skipped: 0}


def start(config: Tracker, record: RunRecord, display: Display) -> "WandbTracker":
    """Open a W&B run. Without an answer from the server in time, it is kept offline."""
    directory = Path(config.directory)
    directory.mkdir(parents=True, exist_ok=True)
    # Otherwise artifacts and caches are staged in the home directory.
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        os.environ.setdefault(name, str(directory))
    logging.getLogger("wandb").setLevel(logging.ERROR)
    if config.mode is TrackerMode.online:
        try:
            return WandbTracker(config, record, "online", directory)
        except Exception as error:
            display.line(
                f"  warning: W&B is out of reach ({type(error).__name__}); the run is kept "
                "offline, sync it later with `wandb sync`",
                style="yellow",
            )
    return WandbTracker(config, record, "offline", directory)


class WandbTracker:
    """One W&B run."""

    def __init__(self, config: Tracker, record: RunRecord, mode: Any, directory: Path) -> None:
        """Begin the run with its resolved configuration."""
        import wandb

        self._step = 0
        self._run = wandb.init(
            project=config.project,
            entity=config.entity,
            group=redact(config.group or record.sweep),
            job_type="run",
            name=record.run,
            tags=redact([record.model, record.label, *config.tags]),
            notes=redact(config.notes),
            dir=str(directory),
            mode=mode,
            reinit="finish_previous",
            config=redact(
                {
                    **record.config,
                    "sweep": record.sweep,
                    "overrides": record.overrides,
                    "versions": record.versions,
                    "host": record.host,
                }
            ),
            settings=wandb.Settings(
                silent=True,
                init_timeout=config.connect_timeout_seconds,
                console="off",
                disable_git=True,
                disable_code=True,
                # Its own record of the host holds the command line as it was typed.
                x_disable_meta=True,
            ),
        )

    def log_stage(self, stage: StageRecord) -> None:
        """One step a stage."""
        self._step += 1
        metrics: dict[str, Any] = stage_metrics(stage)
        metrics[f"{stage.stage}/reused"] = stage.reused
        self._run.log(metrics, step=self._step)

    def finish(self, record: RunRecord) -> None:
        """Write the summary and end the run with the exit code that its status means."""
        self._run.tags = (*(self._run.tags or ()), record.status.value)
        self._run.summary["status"] = record.status.value
        self._run.summary["reason"] = record.reason
        self._run.summary["warnings"] = record.warnings
        self._run.finish(exit_code=_EXIT_CODES.get(record.status, 1))
