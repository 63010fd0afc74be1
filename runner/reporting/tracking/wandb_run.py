"""W&B runs: how one is opened, what it is called, and who is told of it."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from runner.config.schema.tracker import Tracker, TrackerMode
from runner.pipeline.stages.base import Cells
from runner.reporting.tracking.alerts import Alert
from runner.reporting.tracking.base import FOLLOWED_PROCESS, Log
from runner.reporting.tracking.wandb_artifacts import shortened
from runner.util.surroundings import own_home

_MOST_TAG = 64
"""Characters of a tag (wandb's own check), and of a type of job."""
_MOST_TITLE = 63
"""Characters of an alert's title."""


def run_id(config: Tracker, sweep: str, run: str) -> str:
    """The W&B id of a run: the same when it is started again, another for every other one."""
    # Sweeps may be named alike in stores that log to one project.
    identity = f"{Path(config.directory).expanduser().resolve()}\n{sweep}\n{run}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def gate_name(run: str) -> str:
    """Name of the W&B run in which the gate promotes another one's checkpoint."""
    return f"{run} gate"


def tag(text: str) -> str:
    """A tag, or a type of job, that W&B takes."""
    return shortened(text, _MOST_TAG)


def tags(texts: list[str]) -> list[str]:
    """Each once, as W&B takes them."""
    return [tag(text) for text in dict.fromkeys(texts) if text]


def send(run: Any, alert: Alert | None) -> None:
    """Send an alert, if there is one."""
    if alert is not None:
        title = shortened(alert.title, _MOST_TITLE)
        run.alert(title, alert.text, level="ERROR" if alert.is_error else "INFO")


def table(cells: Cells) -> Any:
    """A table of W&B's."""
    import wandb

    columns, rows = cells
    return wandb.Table(columns=[*columns], data=rows, allow_mixed_types=True)


def open_run(tracker: Tracker, log: Log, **described: Any) -> Any:
    """Begin a run; an online one that gets no answer becomes an offline one."""
    wandb, directory = settled(tracker), Path(tracker.directory)

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
                # It reads what every installed package says of itself, for each run; what a stage
                # ran with is in the record.
                x_save_requirements=False,
                # The work is done in workers, which are this process's descendants.
                x_stats_track_process_tree=True,
                x_stats_pid=int(os.environ.get(FOLLOWED_PROCESS, os.getpid())),
                x_stats_sampling_interval=tracker.system_interval_seconds,
            ),
            **described,
        )

    if tracker.mode is TrackerMode.online:
        try:
            return begin("online")
        except Exception as error:
            log.line(
                f"  warning: W&B is unreachable ({type(error).__name__}); the run is kept offline, "
                "upload it later with `runner track sync`",
                style="yellow",
            )
            # Its service still holds the run's id for the attempt that failed.
            wandb.teardown()
    return begin("offline")


def settled(tracker: Tracker) -> Any:
    """The library, which keeps all that it writes in the tracker's directory."""
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
    return wandb
