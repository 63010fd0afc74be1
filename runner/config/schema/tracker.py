"""Where runs are logged."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded


class TrackerMode(Enum):
    """Whether the tracker talks to its server while a run goes on."""

    offline = "offline"
    online = "online"


class Checkpoints(Enum):
    """How a tracker keeps checkpoints."""

    reference = "reference"
    """Where they lie, since gigabytes need no second copy."""
    upload = "upload"
    """Their files, copied into the tracker's own and sent with the run."""


class AlertOn(Enum):
    """What a tracker sends its users a message about."""

    run_failed = "run_failed"
    """A run failed, at once."""
    sweep_failed = "sweep_failed"
    """A sweep is over, and runs of it failed."""
    sweep_ended = "sweep_ended"
    """A sweep is over."""


@dataclass
class Tracker:
    """A tracker, and how runs are labelled there."""

    name: str = MISSING
    mode: TrackerMode = TrackerMode.offline
    project: str = "quant-runner"
    entity: Optional[str] = None
    group: Optional[str] = None
    """Runs shown together; the sweep's id by default."""
    job_type: str = "run"
    tags: list[str] = field(default_factory=list)
    notes: Optional[str] = bounded(None, prose=True)
    directory: str = bounded(MISSING, filled=True, why="name a folder")
    """Folder of offline runs until they are uploaded."""
    uri: Optional[str] = None
    """Tracking URI of an MLflow server; files below ``directory`` by default."""
    checkpoints: Checkpoints = Checkpoints.reference
    registry: Optional[str] = None
    """Collection of W&B's registry that checkpoints which pass the gate are linked into, such as
    ``wandb-registry-model/chat``; it needs ``mode=online``."""
    alerts: list[AlertOn] = field(default_factory=lambda: [AlertOn.sweep_failed])
    """Events that send an alert, by mail or Slack as set in W&B; ``[]`` disables alerts."""
    connect_timeout_seconds: float = bounded(20.0, above=True, most=10**6)
    """Time without an answer after which an online run is kept offline instead."""
    system_interval_seconds: float = bounded(5.0, above=True, most=10**6)
    """How often memory and load of the runner and its workers are sampled."""
