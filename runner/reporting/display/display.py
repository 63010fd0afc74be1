"""Shows progress on standard error, so that standard output contains only answers."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runner.reporting.display.run_log import RunLog
from runner.reporting.display.screen import Screen
from runner.reporting.display.state import (
    RUNNING,
    SILENT_SECONDS,
    Line,
    RunState,
    StageState,
    SweepState,
    distinct_titles,
    duration,
)
from runner.store.records import RunRecord
from runner.util.shown import console

_PLAIN_INTERVAL_SECONDS = 15.0
_LONGEST_INTERVAL_SECONDS = 240.0
_LOOKS_SECONDS = 1.0


class StageDisplay:
    """Progress of one stage."""

    def __init__(self, display: "Display", state: StageState) -> None:
        """Tell how far ``state`` is where nothing is drawn, seldom and ever more so."""
        self._display = display
        self._state = state
        self._interval = _PLAIN_INTERVAL_SECONDS
        self._last = time.monotonic()
        self._lock = threading.Lock()

    @property
    def title(self) -> str:
        """Stage and what it works on."""
        return self._state.title

    def update(self, done: int, total: int, what: str) -> None:
        """Show how far the stage is."""
        self._state.update(done, total, what)
        self.tell()

    def tell(self) -> None:
        """Write a line if nothing is drawn and it is time for one, whether there is news or not."""
        with self._lock:
            if self._display.is_live or time.monotonic() - self._last < self._interval:
                return
            self._last = time.monotonic()
            self._interval = min(2 * self._interval, _LONGEST_INTERVAL_SECONDS)
        state = self._state
        left, count = state.seconds_left(), f" {state.done}/{state.total}" * (state.total > 1)
        times = f", {duration(self._last - state.began)} so far"
        times = times if left is None else f", {duration(left)} left"
        if state.silent > SILENT_SECONDS:
            times += f", no news for {duration(state.silent)}"
        self._display.line(f"  {state.title}{': ' if state.what else ''}{state.what}{count}{times}")

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Within the block a stage that is silent is told of too."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOKS_SECONDS):
                self.tell()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class Display:
    """Where a process tells what its runs do."""

    def __init__(self, live: bool = True) -> None:
        """Find out whether a person is watching.

        Args:
            live: Draw bars and tables where there is a terminal. Processes that share one with
                their siblings do not.
        """
        watched = console(stderr=True).is_terminal and not _under_slurm()
        self.console = console(stderr=True, force_terminal=None if watched else False)
        self.is_live = live and watched and not self.console.is_dumb_terminal and _is_terminal()
        self._screen = Screen(self.console)
        self._log: RunLog | None = None
        self._header: str | None = None

    @property
    def _sweep(self) -> SweepState | None:
        return self._screen.sweep

    def line(self, text: str, style: str | None = None, *, detail: bool = False) -> None:
        """Print one line.

        Args:
            text: Without markup.
            style: Colour, where there are colours.
            detail: Not worth a line where the live table of a sweep tells it too.
        """
        if self._log is not None:
            self._log.write(text)
        if detail and self.is_live and self._sweep is not None:
            return
        if self._header is not None:
            header, self._header = self._header, None
            self._print(header, "bold")
        self._print(text, style)

    def _print(self, text: str, style: str | None) -> None:
        # In a pipe every line stays one, however long.
        self.console.print(text, style=style, soft_wrap=not self.is_live)

    def open_sweep(
        self, name: str, jobs: Sequence[Sequence[str]], numbers: Mapping[int, int] | None = None
    ) -> None:
        """Show a sweep of runs that this process carries out one after the other.

        Args:
            name: The sweep's id.
            jobs: Overrides of each run.
            numbers: Of runs by their places among the jobs, where the two differ.
        """
        if self._sweep is None:
            lines = [Line(title) for title in distinct_titles(jobs)]
            places = {(numbers or {}).get(place, place): place for place in range(len(lines))}
            self._screen.sweep = SweepState(name, lines, places)

    @property
    def expects(self) -> bool:
        """Whether anything is expected of the sweep's runs."""
        return self._sweep is None or self._sweep.is_expected

    def expect(self, seconds: Sequence[float | None]) -> None:
        """Take account of what each of the sweep's runs is going to take, where that is known."""
        if self._sweep is not None:
            self._sweep.is_expected = True
            for line, expected in zip(self._sweep.lines, seconds, strict=False):
                line.expected = expected

    def begin_run(
        self, record: RunRecord, folder: Path, expected_seconds: Sequence[float | None]
    ) -> None:
        """A run begins.

        Args:
            record: Its record.
            folder: Where its lines are kept too.
            expected_seconds: Of each stage that it is made up of.
        """
        self._log = RunLog(folder)
        self._screen.run = RunState(record.run, record.model, expected_seconds)
        place = ""
        if (line := self._line_of(record)) is not None and self._sweep is not None:
            place = f"  [{self._sweep.places[record.number] + 1} of {len(self._sweep.lines)}"
            left = self._sweep.seconds_left(None)
            line.title, line.state = record.run, RUNNING
            place += "]" if not left else f", about {duration(left)} left]"
        header = f"{record.run}  {record.model}{place}"
        self.line(header, style="bold", detail=True)
        if self.is_live:
            # A sweep's table tells it; above it stands the header of what needs more words.
            self._header = header if self._sweep is not None else None
            self._screen.open()

    def step(self) -> None:
        """A stage of the run has its result."""
        if self._screen.run is not None:
            self._screen.run.done += 1

    def end_run(self, record: RunRecord, *, kept: bool = False) -> None:
        """The run is over, as its record says; ``kept`` from an earlier start of the sweep."""
        if (line := self._line_of(record)) is not None:
            line.take(record)
            line.seconds = None if kept else line.seconds
        self._screen.run = None
        self._log = self._header = None
        if self._sweep is None:
            self.close()

    def _line_of(self, record: RunRecord) -> Line | None:
        return None if self._sweep is None else self._sweep.line_of(record)

    @contextlib.contextmanager
    def stage(
        self, title: str, *, is_step: bool = False, expected_seconds: float | None = None
    ) -> Iterator[StageDisplay]:
        """Show a stage while it runs.

        Args:
            title: What to call it.
            is_step: Whether the run is made up of such; texts, tokens and the like are quick.
            expected_seconds: What it will take, where that is known.
        """
        state = StageState(title, is_step, expected=expected_seconds)
        run, alone = self._screen.run, self._screen.run is None
        if run is None:
            # Nothing but this: an environment that is made on request.
            run = self._screen.run = RunState(title, "", [None])
            if self.is_live:
                self._screen.open()
        run.stages.append(state)
        shown = StageDisplay(self, state)
        try:
            with contextlib.nullcontext() if self.is_live else shown.telling():
                yield shown
        finally:
            run.stages.remove(state)
            if alone:
                self._screen.run = None
                if self._sweep is None:
                    self.close()

    def watch(self, name: str, runs: Sequence[str]) -> SweepState:
        """Show a sweep whose runs other processes carry out; its lines are the caller's to keep."""
        self._screen.sweep = SweepState(name, [Line(run) for run in runs])
        if self.is_live:
            self._screen.open()
        return self._screen.sweep

    def close(self) -> None:
        """Wipe off what is drawn."""
        self._screen.close()


def _is_terminal() -> bool:
    # What rich takes for a terminal may be a variable's word for it: colours, but no drawing.
    import sys

    return sys.stderr.isatty()


def _under_slurm() -> bool:
    """Whether this is a job's script; a shell that Slurm opened for a person is none."""
    return "SLURM_JOB_ID" in os.environ and "SLURM_PTY_PORT" not in os.environ
