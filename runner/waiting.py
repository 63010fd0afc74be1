"""Says on standard error what takes long and how far it is, where nothing else does."""

import sys
import time
from types import TracebackType

_FIRST_SECONDS = 1.5
"""What is over sooner needs no word."""
_MOST_SECONDS = 30.0


class Waiting:
    """Progress of a command's own work: a line that is written over on a terminal, few in a pipe.

    Used as a context, at whose end the line on a terminal is wiped off.
    """

    def __init__(self) -> None:
        """Nothing is said before there is something to wait for."""
        self._next = time.monotonic() + _FIRST_SECONDS
        self._interval = _FIRST_SECONDS
        self._width = 0

    def tell(self, what: str, done: int, total: int) -> None:
        """Say how far it is, unless that was said a moment ago.

        Args:
            what: Is done, such as ``reading results``.
            done: Of ``total``.
            total: Things there are.
        """
        now = time.monotonic()
        if now < self._next:
            return
        watched = sys.stderr.isatty()
        self._next = now + (0.2 if watched else self._interval)
        self._interval = min(2 * self._interval, _MOST_SECONDS)
        text = f"runner: {what}: {done:,} of {total:,}"
        if watched:
            self._width = max(self._width, len(text))
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def wipe(self) -> None:
        """Leave no line on a terminal."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0

    def __enter__(self) -> "Waiting":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wipe()
