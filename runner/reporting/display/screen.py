"""The live part of a terminal: the table of a sweep's runs, and bars with the time left."""

import contextlib
import time
from typing import TYPE_CHECKING

from runner.reporting.display.state import (
    RUNNING,
    SILENT_SECONDS,
    WAITING,
    Line,
    RunState,
    SweepState,
    clock,
    duration,
)
from runner.util.progress import quiet

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

_REFRESHES_PER_SECOND = 2.0
"""Few: the runner's own work shares the processors with what it measures."""
_WIDE = 100
"""Columns from which on a run's figures are shown."""
_ROWS_BESIDE_TABLE = 9
_STYLES = {
    **dict.fromkeys(("failed", "oom", "timeout"), "red"),
    **dict.fromkeys(("skipped", "cancelled", "interrupted"), "yellow"),
    "ok": "green",
    RUNNING: "bold",
    WAITING: "dim",
}


class Screen:
    """Redraws itself until it is closed; lines are printed above it."""

    def __init__(self, console: "Console") -> None:
        """Draw on a console that is a terminal, once there is something to draw."""
        self._console = console
        self._live: Live | None = None
        self._quiet = contextlib.ExitStack()
        self.sweep: SweepState | None = None
        self.run: RunState | None = None

    def open(self) -> None:
        """Begin to draw."""
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=self.drawn,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
                redirect_stdout=False,
            )
            self._quiet.enter_context(quiet())
            self._live.start()

    def close(self) -> None:
        """Wipe it off."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._quiet.close()

    def drawn(self) -> "RenderableType":
        """Everything at this moment."""
        from rich.console import Group

        parts: list[RenderableType] = []
        if self.sweep is not None:
            parts.append(_table(self.sweep, self._console.width, self._console.height))
        parts.append(_bars(self.sweep, self.run, self._console.width))
        return Group(*parts)


def _table(sweep: SweepState, width: int, height: int) -> "Table":
    from rich import box
    from rich.table import Table

    wide = width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, width=width)
    table.add_column(f"run of {sweep.name}", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("state", no_wrap=True)
    for title in ("bits/weight", "perplexity", "decode tok/s") if wide else ("perplexity",):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    shown, before, after = window(sweep.lines, max(3, height - _ROWS_BESIDE_TABLE))
    blank = [""] * (len(table.columns) - 1)
    if before:
        table.add_row(f"… {before} before", *blank, style="dim")
    for line in shown:
        table.add_row(*_cells(line, wide), style=_STYLES.get(line.state))
    if after:
        table.add_row(f"… {after} more", *blank, style="dim")
    return table


def window(lines: list[Line], most: int) -> tuple[list[Line], int, int]:
    """The lines around the run under way, and how many are left out before and after them."""
    if len(lines) <= most:
        return lines, 0, 0
    current = next((n for n, line in enumerate(lines) if not line.is_over), len(lines) - 1)
    first = min(max(0, current - most // 2), len(lines) - most)
    return lines[first : first + most], first, len(lines) - first - most


def _cells(line: Line, wide: bool) -> list[str]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else form.format(value)

    figures = [number(line.perplexity, "{:.3f}")]
    if wide:
        figures.insert(0, number(line.bits_per_weight, "{:.2f}"))
        figures.append(number(line.decode_tokens_per_second, "{:.1f}"))
    time_ = "" if line.seconds is None else clock(line.seconds)
    return [line.title, line.state, *figures, time_]


def _bars(sweep: SweepState | None, run: RunState | None, width: int) -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    bar_width = 14 if width < _WIDE else 30
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=max(16, width - bar_width - 44))
    grid.add_column(width=bar_width)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True)

    def add(title: str, done: float, total: float, count: str, times: str) -> None:
        bar = ProgressBar(total or 1, done, width=bar_width, pulse=not total)
        grid.add_row(title, bar, count, times)

    if sweep is not None:
        done = sweep.over + (run.fraction if run is not None else 0.0)
        count = f"{sweep.over} of {len(sweep.lines)} runs"
        elapsed = time.monotonic() - sweep.began
        add("sweep", done, len(sweep.lines), count, _times(elapsed, sweep.seconds_left(run)))
    if run is not None:
        count = f"{run.done} of {run.steps} stages"
        add(f"run {run.name}", run.fraction, 1, count, _times(run.elapsed, run.seconds_left()))
        if (stage := run.stage) is not None:
            title = stage.title + (f": {stage.what}" if stage.what else "")
            known = stage.total > 1
            count = f"{stage.done} of {stage.total}" if known else ""
            elapsed = time.monotonic() - stage.began
            total = stage.total if known else 0
            times = _times(elapsed, stage.seconds_left())
            if stage.silent > SILENT_SECONDS:
                times += f", no news for {duration(stage.silent)}"
            add(title, stage.done, total, count, times)
    return grid


def _times(elapsed: float, left: float | None) -> str:
    return clock(elapsed) + ("" if left is None else f", {duration(left)} left")
