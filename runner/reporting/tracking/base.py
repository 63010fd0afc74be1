"""The interface of a tracker."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.schema.tracker import Tracker
from runner.pipeline.observers import RunTracker
from runner.pipeline.stages import find_stage
from runner.pipeline.stages.jobs.floor import STAGE as FLOOR
from runner.reporting.rows import Row
from runner.store.records import BASELINE, RECIPE, RunRecord, StageRecord

if TYPE_CHECKING:
    from runner.reporting.display import Display


@dataclass(frozen=True)
class SweepEnd:
    """What a tracker may log of a whole sweep once all its runs have ended."""

    sweep: str
    records: list[RunRecord]
    rows: list[Row]
    files: list[Path]
    """The answer and its figures."""


@dataclass(frozen=True)
class TrackerImplementation:
    """A tracker: a module exposes one of these as ``TRACKER``."""

    start: "Callable[[Tracker, RunRecord, Display], RunTracker]"
    """Starts tracking a run, or continues if the same run is started again."""
    summarise: "Callable[[Tracker, SweepEnd, Display], None] | None" = None
    """Logs a summary of a whole sweep; ``None`` if there is none."""
    reads: frozenset[str] | None = None
    """Fields of ``Tracker`` that have an effect, besides its name; ``None`` for all."""


def stage_metrics(stage: StageRecord) -> dict[str, float]:
    """A stage's numbers under names that carry unit and protocol.

    The unquantized model's are prefixed with ``baseline/``, those of its second measurement with
    ``baseline_again/``.
    """
    declared = find_stage(stage.stage)
    metrics = declared.metrics(stage.read(declared))
    metrics[f"{stage.stage}/seconds"] = stage.resources.seconds
    metrics[f"{stage.stage}/peak_memory_bytes"] = stage.resources.peak_memory_bytes
    prefix = "" if stage.subject == RECIPE or declared is FLOOR else f"{stage.subject}/"
    return {f"{prefix}{name}": value for name, value in metrics.items() if value is not None}


def stage_words(stage: StageRecord) -> dict[str, str]:
    """Texts of a stage that determine which results its numbers can be compared with."""
    declared = find_stage(stage.stage)
    prefix = f"{BASELINE}/" if stage.subject == BASELINE and declared is not FLOOR else ""
    words = declared.words(stage.read(declared))
    return {f"{prefix}{stage.stage}/{name}": word for name, word in words.items() if word}
