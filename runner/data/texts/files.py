"""Files of a local text, found in one place for all callers."""

import os
from pathlib import Path

from runner.errors import UsageError
from runner.util.given import FileFault, require_regular, shown, user_path

_MOST_FILES = 100_000
"""Below a folder: more would take minutes to look at, and are hardly one text."""


def text_path(name: str, path: str | None) -> Path:
    """Where a text is said to lie.

    Raises:
        UsageError: There is nothing.
    """
    place = user_path(path or "", f"text {shown(name)}: path")
    if not path or not place.exists():
        raise UsageError(f"text {shown(name)}: there is no file {shown(path)}; set its path")
    return place


def local_files(path: Path) -> list[Path]:
    """A file, or all files below a folder in a fixed order; no links to folders are followed.

    Raises:
        FileFault: The file is a device, a pipe or a socket, or empty.
        UsageError: There are too many.
    """
    if not path.is_dir():
        if not require_regular(path).st_size:
            raise FileFault(path, "is empty")
        return [path]
    files: list[Path] = []
    for folder, inner, names in os.walk(path):
        inner.sort()
        files += [Path(folder, name) for name in names]
        if len(files) > _MOST_FILES:
            raise UsageError(
                f"{shown(path)} contains more than {_MOST_FILES} files: set a subdirectory "
                "or one file"
            )
    return sorted(files)


def states(path: Path) -> list[tuple[str, int, int]]:
    """Name, size in bytes and time of change of each file, by which a change is seen.

    Raises:
        UsageError: As ``local_files``.
    """
    states = []
    for file in local_files(path):
        if file.is_file():
            status = file.stat()
            states.append((str(file), status.st_size, status.st_mtime_ns))
    return states


def text_states(name: str, path: str | None) -> list[tuple[str, int, int]]:
    """The same of a text that is said to lie there.

    Raises:
        UsageError: There is none, or it cannot be read.
    """
    try:
        return states(text_path(name, path))
    except FileFault as error:
        raise UsageError(f"text {shown(name)}: {error}") from None
