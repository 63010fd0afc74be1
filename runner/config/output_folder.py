"""The folder that Hydra creates for a run or a sweep; copies of the answer go there."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from runner.util.surroundings import takes_files

_MARK = "quant-runner-"
_NOTES = re.compile(r"multirun\.yaml|\.hydra|[\w-]+\.log")
"""What Hydra writes of a request before anything is done for it."""
_added: set[Path] = set()
"""What was not there when this process was told where to make its folder."""


def chosen(name: str) -> str:
    """Where Hydra is to make its folder: below ``name``, or apart where nothing can be written.

    Args:
        name: ``outputs`` or ``multirun``, relative to the working directory.
    """
    here = Path(name).absolute()
    if takes_files(here if here.is_dir() else here.parent):
        if not here.exists():
            _added.add(here)
        return name
    apart = Path(tempfile.gettempdir()) / f"{_MARK}{os.getuid()}"
    return str(apart / name)


def note(folder: str) -> None:
    """Remember what is not there yet of a folder that the command line names for Hydra."""
    with contextlib.suppress(OSError, ValueError):
        path = Path(folder).absolute()
        _added.update(one for one in (path, *path.parents) if not one.exists())


def for_copies(folder: Path) -> Path | None:
    """The folder if it is one for people: none that was made apart."""
    return None if any(part.startswith(_MARK) for part in folder.parts) else folder


def tidy(folder: Path, *, refused: bool) -> None:
    """Remove what is empty of a folder that Hydra made below a place that ``chosen`` named.

    Args:
        folder: As Hydra was told; another than those is left alone unless ``note`` knows it.
        refused: Nothing was begun: the note of what was asked for goes too.
    """
    folder = folder.absolute()
    above = [one for one in folder.parents if one.name in ("outputs", "multirun")]
    if not folder.is_dir() or not (above or folder in _added):
        return
    if for_copies(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            for one in (folder.parent, *above[:1], *(one.parent for one in above[:1])):
                one.rmdir()
        return
    with contextlib.suppress(OSError):
        inside = list(folder.iterdir())
        for job in inside:
            if job.is_dir():
                with contextlib.suppress(OSError):
                    job.rmdir()  # only if it is empty
        left = [*folder.iterdir()] if refused else []
        if all(_NOTES.fullmatch(one.name) for one in left):
            for one in left:
                shutil.rmtree(one) if one.is_dir() else one.unlink()
        folder.rmdir()
        for one in folder.parents:
            if one not in _added and not (above and one == folder.parent):
                break
            one.rmdir()


def tidy_added() -> None:
    """Remove the empty folders of a place that ``chosen`` named and that was not there before."""
    for top in [one for one in _added if one.name in ("outputs", "multirun")]:
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
    _added.clear()
