"""Where the runs of a sweep are stored."""

from dataclasses import dataclass, field
from pathlib import Path

from runner.config.schema.decide import Decide
from runner.config.schema.tracker import Tracker


@dataclass(frozen=True)
class RunLocation:
    """Where a run's record lies. A job returns it to the process that started the sweep."""

    runs: Path
    sweep: str
    tracker: Tracker
    report: bool
    """The run names stage ``report``: its answer is a page and figures too."""
    decide: Decide = field(default_factory=Decide)
    """What the answer is judged by."""
    detached: bool = False
    """The jobs go on without us: there is no answer yet."""
