"""The interface of a tracker."""

import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runner.config.schema.tracker import Tracker
from runner.errors import RunnerError, UsageError
from runner.pipeline.observers import RunTracker
from runner.pipeline.stages import find_stage
from runner.pipeline.stages.base import Cells
from runner.pipeline.stages.jobs.floor import STAGE as FLOOR
from runner.reporting.rows import Row, rows_of
from runner.store.records import BASELINE, RECIPE, RunRecord, StageRecord, read_records


class Log(Protocol):
    """Where a tracker says what a person ought to know."""

    def line(self, text: str, style: str | None = None) -> None:
        """Say one line, in a colour of rich's."""


@dataclass(frozen=True)
class SweepEnd:
    """What a tracker may log of a whole sweep once all its runs have ended."""

    sweep: str
    records: list[RunRecord]
    rows: list[Row]
    files: list[Path]
    """The answer and its figures."""

    @classmethod
    def filed(cls, runs: Path, sweep: str, scratch: Path) -> "SweepEnd":
        """As the store has it: the sweep's records, and the answer beside them.

        Args:
            runs: The store's folder of records.
            sweep: Its id.
            scratch: Folder for figures that the answer did not ask for.
        """
        from runner.reporting.page.figures import write_figures
        from runner.reporting.page.subject import Subject
        from runner.reporting.pareto import mark_best_tradeoffs

        records, folder = read_records(runs, sweep), runs / sweep
        rows = rows_of(records)
        mark_best_tradeoffs(rows)
        files = [path for name in _ANSWER if (path := folder / name).is_file()]
        figures = [*folder.glob("figures/*.png")]
        if not figures and any(row.perplexity is not None for row in rows):
            figures = write_figures(Subject(sweep, records, rows).row_dicts(), scratch)
        drawn = [path for path in figures if path.suffix == ".png"]
        drawn += folder.glob("sensitivity-*.png")
        return cls(sweep, records, rows, files + sorted(drawn))

    def verdict(self) -> dict[str, str]:
        """What the answer says to take, by a name for each model and text: ``verdict/…``."""
        path = next((path for path in self.files if path.name == _ANSWER[0]), None)
        found = None if path is None else json.loads(path.read_text("utf-8")).get("verdict")
        scopes = [found] if isinstance(found, dict) else found or []
        told: dict[str, str] = {}
        for number, scope in enumerate(scopes):
            end = f"/{_NO_WORD.sub('_', scope['scope'])}" if number else ""
            take = (scope.get("take") or {}).get("recipe")
            named = {"outcome": scope.get("outcome"), "headline": scope.get("headline")}
            named |= {"take": take}
            told |= {f"verdict/{name}{end}": text for name, text in named.items() if text}
        return told


@dataclass(frozen=True)
class TrackerImplementation:
    """A tracker: a module exposes one of these as ``TRACKER``.

    Its functions are called in a process that only logs (``service``), one after the other.
    """

    start: Callable[[Tracker, RunRecord, Log], RunTracker] | None
    """Starts tracking a run, or continues if the same run is started again; ``None`` for a tracker
    that logs nothing."""
    summarise: Callable[[Tracker, SweepEnd, Log], None] | None = None
    """Logs a summary of a whole sweep; ``None`` if there is none."""
    promote: Callable[[Tracker, RunRecord, Log], None] | None = None
    """Marks a run's checkpoint as one that passed the gate; ``None`` if it keeps no checkpoints."""
    prepare: Callable[[Tracker], None] | None = None
    """Imports and starts what ``start`` needs, before there is a run; ``None`` for nothing."""
    reads: frozenset[str] | None = None
    """Fields of ``Tracker`` that have an effect, besides its name; ``None`` for all."""
    library: tuple[str, str] | None = None
    """Module that it needs and set-up may have left out, and the command that installs it."""


FOLLOWED_PROCESS = "QUANT_RUNNER_FOLLOWED_PROCESS"
"""Variable with the id of the process whose load and memory are sampled."""
_NO_WORD = re.compile(r"[^A-Za-z0-9_-]+")
_ANSWER = ("answer.json", "answer.csv", "answer.md", "report.html")


def require_library(name: str, command: str) -> None:
    """See that a tracker's library is there.

    Raises:
        UsageError: It is not; ``command`` installs it.
    """
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"{name} is not installed: {command}")


def told_reason(error: Exception) -> str:
    """Why a tracker fails, in words."""
    return str(error) if isinstance(error, RunnerError) else f"{type(error).__name__}: {error}"


def stage_metrics(stage: StageRecord) -> dict[str, float]:
    """A stage's numbers as ``section/name`` or ``section/name/which``: see ``named``."""
    declared = find_stage(stage.stage)
    metrics = dict(declared.metrics(stage.read(declared)))
    metrics[f"{stage.stage}/seconds"] = stage.resources.seconds
    metrics[f"{stage.stage}/peak_memory_bytes"] = stage.resources.peak_memory_bytes
    return {named(stage, name): value for name, value in metrics.items() if value is not None}


def stage_words(stage: StageRecord) -> dict[str, str]:
    """Texts of a stage that determine which results its numbers can be compared with."""
    declared = find_stage(stage.stage)
    words = declared.words(stage.read(declared))
    return {named(stage, name): word for name, word in words.items() if word}


def stage_tables(stage: StageRecord) -> dict[str, Cells]:
    """A stage's tables, under such names too."""
    declared = find_stage(stage.stage)
    tables = declared.tables(stage.read(declared))
    return {named(stage, name): cells for name, cells in tables.items() if cells[1]}


def named(stage: StageRecord, name: str) -> str:
    """The name of a metric: the stage is its section, and no name has another dot or slash.

    ``section/name``, and ``section/name/which`` where there are several of a kind. Names of the
    unquantized model's begin with ``baseline_``, those of its second measurement with
    ``baseline_again_``.
    """
    own, _, which = name.removeprefix(f"{stage.stage}/").partition("/")
    is_recipes = stage.subject == RECIPE or (stage.stage, stage.subject) == (FLOOR.name, BASELINE)
    own = own if is_recipes else f"{stage.subject}_{own}"
    return "/".join(_NO_WORD.sub("_", part) for part in (stage.stage, own, which) if part)
