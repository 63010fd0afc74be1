"""Log output of llama.cpp, line by line."""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

# Levels from ggml.h; the table in llama-cpp-python's own logger is of an older llama.cpp.
WARNING, ERROR = 3, 4
_CONTINUED = 5
"""Goes on with the line before."""

_callback: Any = None


def listen(handler: Callable[[int, str], None]) -> None:
    """Hand every whole line of llama.cpp's log to ``handler``, with its level."""
    global _callback  # noqa: PLW0603
    import llama_cpp

    pending, last = "", 0

    def collect(level: int, text: bytes, _: Any) -> None:
        nonlocal pending, last
        if level != _CONTINUED:
            last = level
        *lines, pending = (pending + text.decode(errors="replace")).split("\n")
        for line in lines:
            if line.strip():
                handler(last, line.strip())

    # llama.cpp keeps the pointer alone: the callback must not be collected while it is in use.
    callback = llama_cpp.llama_log_callback(collect)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    _callback = callback


def print_warnings(level: int, line: str) -> None:
    """Handler for ``listen`` that lets warnings and errors through."""
    if level in (WARNING, ERROR):
        print(line, file=sys.stderr, flush=True)
