"""Shows the progress of verifying a result's digests, if that takes long."""

import contextlib
from types import TracebackType

from runner.pipeline.observers import Display, StageDisplay

_MEGABYTE = 1_000_000
_LONG_BYTES = 500 * _MEGABYTE


class Compared:
    """Told of bytes; as a context it ends what it shows."""

    def __init__(self, display: Display, title: str) -> None:
        """Show nothing yet: most results are compared in no time."""
        self._display = display
        self._title = title
        self._shown: StageDisplay | None = None
        self._stack = contextlib.ExitStack()

    def __call__(self, done: int, total: int) -> None:
        """So many bytes of so many were compared."""
        if total < _LONG_BYTES:
            return
        if self._shown is None:
            title = f"{self._title}: comparing with its digests"
            self._shown = self._stack.enter_context(self._display.stage(title))
        self._shown.update(done // _MEGABYTE, total // _MEGABYTE, "MB")

    def __enter__(self) -> "Compared":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
