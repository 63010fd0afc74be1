"""The runner's standard output and error, with secrets masked."""

import sys
from collections.abc import Iterable
from typing import Any

from runner.util.redact import redact


class MaskedStream:
    """A text stream that masks what is written to it, one call at a time."""

    def __init__(self, stream: Any) -> None:
        """Write to ``stream``; whatever else is asked of it, it answers."""
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text without its secrets; returns its length as it was given."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)


def mask_streams() -> None:
    """Have all that the process prints from now on masked."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, MaskedStream):
            setattr(sys, name, MaskedStream(stream))
