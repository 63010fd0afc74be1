"""Tracker ``csv_file``: one line per number in ``metrics.csv``, for a spreadsheet."""

import csv
from pathlib import Path

from runner.config.schema.tracker import Tracker
from runner.reporting.tracking.base import Log, TrackerImplementation, stage_metrics
from runner.store.records import RunRecord, StageRecord


class CsvFile:
    """Appends the metrics of one run."""

    def __init__(self, path: Path, run: str) -> None:
        """Write below what earlier runs wrote."""
        self.path, self.run = path, run

    def log_stage(self, stage: StageRecord) -> None:
        """One line per metric."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as file:
            lines = csv.writer(file)
            for name, value in stage_metrics(stage).items():
                lines.writerow((self.run, name, value))

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """Nothing: only results count."""

    def finish(self, record: RunRecord) -> None:
        """Nothing: every stage is written when it ends."""


def start(config: Tracker, record: RunRecord, log: Log) -> CsvFile:
    """Follow a run."""
    return CsvFile(Path(config.directory) / "metrics.csv", f"{record.sweep}/{record.run}")


TRACKER = TrackerImplementation(start, reads=frozenset({"directory"}))
