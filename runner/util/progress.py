"""Progress of long work outside a run's stages, on standard error.

Nothing is said of what is over within a second and a half.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

_Thing = TypeVar("_Thing")
_SILENT_SECONDS = 1.5
_REDRAWN_SECONDS = 0.5
_PIPED_SECONDS = 10.0
"""Between two lines where nobody watches; each takes half as long again as the one before."""
_ERASE = "\r\x1b[K"


class _Speaker:
    """Tells of the innermost of the things that a process is at."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.going_on: list[_Progress] = []
        self.drawn = False
        self.paused = 0


_speaker = _Speaker()


class _Progress:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self.began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def start(self) -> None:
        with _speaker.lock:
            _speaker.going_on.append(self)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        with _speaker.lock:
            _speaker.going_on.remove(self)
            _erase()
        self._thread.join()

    def advance(self, count: int = 1) -> None:
        self.done += count

    def _speak(self) -> None:
        wait, watched = _SILENT_SECONDS, sys.stderr.isatty()
        pause = _REDRAWN_SECONDS if watched else _PIPED_SECONDS
        while not self._over.wait(wait):
            with _speaker.lock:
                if _speaker.going_on[-1:] == [self] and not _speaker.paused:
                    _tell(self._said(), watched)
            wait = pause
            pause = pause if watched else 1.5 * pause

    def _said(self) -> str:
        elapsed = time.monotonic() - self.began
        if self.total < 1:
            return f"{self.title}: {elapsed:.0f} s so far"
        count = f"{self.title}: {self.done:,} of {self.total:,}"
        if not self.done or elapsed < 2 * _SILENT_SECONDS:
            return count
        return f"{count}, about {elapsed / self.done * (self.total - self.done):.0f} s left"


@contextlib.contextmanager
def progress(title: str, total: int = 0) -> Iterator[Callable[..., None]]:
    """Tell what goes on within the block, from its second second on, and how far it is.

    On a terminal a line is redrawn and wiped off at the end; elsewhere a line is written now and
    then. Of nested ones the innermost is told.

    Args:
        title: What it is, such as ``reading records``.
        total: Units that there are to do; 0 where that is not known.

    Yields:
        To be called after each unit, or with how many were done since.
    """
    one = _Progress(title, total)
    one.start()
    try:
        yield one.advance
    finally:
        one.stop()


def told(things: Collection[_Thing], title: str) -> Iterator[_Thing]:
    """Each of the things, telling how many of them are done; see ``progress``."""
    with progress(title, len(things)) as seen:
        for one in things:
            yield one
            seen()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block nothing is told: something else draws on the terminal."""
    with _speaker.lock:
        _speaker.paused += 1
        _erase()
    try:
        yield
    finally:
        with _speaker.lock:
            _speaker.paused -= 1


def _tell(text: str, watched: bool) -> None:
    text = "".join(one if one.isprintable() else "?" for one in text)
    with contextlib.suppress(OSError, ValueError):  # a terminal that is gone, a closed stream
        sys.stderr.write(f"{_ERASE}{text}" if watched else f"runner: {text}\n")
        sys.stderr.flush()
        _speaker.drawn = watched


def _erase() -> None:
    if _speaker.drawn:
        _tell("", watched=True)
        _speaker.drawn = False
