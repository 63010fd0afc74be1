"""What a person sees while runs go on: one line a stage, and a bar on a terminal."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_PLAIN_INTERVAL_SECONDS = 15.0


class StageDisplay:
    """Progress of one stage."""

    def __init__(self, console: "Console", title: str, progress: "Progress | None") -> None:
        """Show ``title`` on a bar where there is a terminal, in plain lines elsewhere."""
        self._console = console
        self._title = title
        self._progress = progress
        self._task: TaskID | None = progress.add_task(title, total=None) if progress else None
        self._last = time.monotonic()

    def update(self, done: int, total: int, what: str) -> None:
        """Show how far the stage is."""
        if self._progress is not None and self._task is not None:
            description = f"{self._title}: {what}"
            self._progress.update(self._task, completed=done, total=total, description=description)
        elif time.monotonic() - self._last > _PLAIN_INTERVAL_SECONDS:
            self._last = time.monotonic()
            self._console.print(f"  {self._title}: {what} {done}/{total}")

    def note(self, text: str) -> None:
        """Print a line below the stages."""
        self._console.print(f"  {self._title}: {text}")


class Display:
    """Prints to standard error, so that standard output holds answers alone."""

    def __init__(self) -> None:
        """Find out whether a person is watching."""
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def line(self, text: str, style: str | None = None) -> None:
        """Print one line."""
        self.console.print(text, style=style, markup=False)

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[StageDisplay]:
        """Show a stage while it runs."""
        if not self.console.is_terminal:
            yield StageDisplay(self.console, title, None)
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield StageDisplay(self.console, title, progress)
