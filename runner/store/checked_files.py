"""The store's own small files: damaged ones are set aside, reported, and recomputed."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from runner.store.files import sha256_of_file
from runner.util.shown import tell

_DAY_SECONDS = 86_400.0


def read_kept(path: Path) -> dict[str, Any] | None:
    """Content of a JSON file that holds a mapping; ``None`` where there is none that can be read.

    A file of another kind, such as what a power cut leaves, is set aside as ``NAME.damaged``.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        return content
    set_file_aside(path)
    return None


def set_file_aside(path: Path) -> None:
    """Move a damaged file or folder to ``NAME.damaged`` and say so; it is made anew."""
    aside = path.with_name(f"{path.name}.damaged")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{count}")
    with contextlib.suppress(OSError):  # a store that is only read from
        path.rename(aside)
        tell(
            f"  warning: {path} is damaged: it was renamed to {aside.name} and will be recomputed",
            error=True,
        )


def is_as_fetched(path: Path, sha256: str) -> bool:
    """Whether a file has its digest, which is compared once a day and where the file has changed.

    When that was, and the size and time that the file had, are told by a file beside it.
    """
    note = path.with_name(f".{path.name}.checked")
    status = path.stat()
    state = f"{sha256} {status.st_size} {status.st_mtime_ns}"
    with contextlib.suppress(OSError, ValueError):
        age = time.time() - note.stat().st_mtime
        if 0 <= age < _DAY_SECONDS and note.read_text("utf-8") == state:
            return True
    if sha256_of_file(path) != sha256:
        return False
    beside = note.with_name(f"{note.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a store that is only read from
        beside.write_text(state, "utf-8")
        beside.replace(note)
    return True
