"""Follows runs of other processes by their records."""

from pathlib import Path

from runner.reporting.display.display import Display
from runner.reporting.display.state import RUNNING, WAITING, Line
from runner.store.records import Status, read_record

_QUEUED = ("PENDING", "CONFIGURING", "REQUEUED")


class Watch:
    """Use as a context manager: on leaving, the terminal is as it was."""

    def __init__(self, sweep: Path, runs: list[str]) -> None:
        """Follow ``runs`` in a sweep's directory of records."""
        self._sweep = sweep
        self._display = Display()
        state = self._display.watch(sweep.name, runs)
        self._lines = dict(zip(runs, state.lines, strict=True))

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._display.close()

    def look(self, going_on: dict[str, str]) -> None:
        """Show what became of the runs.

        Args:
            going_on: The state of each job that is not over, by run.
        """
        for run, line in self._lines.items():
            if line.is_over:
                continue
            if run in going_on:
                line.state = WAITING if going_on[run] in _QUEUED else RUNNING
            else:
                self._end(run, line)

    def _end(self, run: str, line: Line) -> None:
        record = read_record(self._sweep / run / "record.json")
        if record is None:
            return
        line.take(record)
        over = sum(line.is_over for line in self._lines.values())
        good = record.status.without_fault
        reason = "" if record.status is Status.ok else f": {record.reason}"
        self._display.line(
            f"{run}  {record.status.value}{reason}  [{over} of {len(self._lines)}]",
            style=None if good else "red",
            detail=good,
        )
