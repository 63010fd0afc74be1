"""The folder that Hydra makes for a run or a sweep, where copies of its answer go."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from runner.surroundings import takes_files

_MARK = "quant-runner-"
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


def for_copies(folder: Path) -> Path | None:
    """The folder if it is one for people: none that was made apart."""
    return None if any(part.startswith(_MARK) for part in folder.parts) else folder


def tidy(folder: Path, *, refused: bool) -> None:
    """Remove what is empty of a folder that Hydra made below a place that ``chosen`` named.

    Args:
        folder: As Hydra was told.
        refused: Nothing was begun: the note of what was asked for goes too.
    """
    folder = folder.absolute()
    above = [one for one in folder.parents if one.name in ("outputs", "multirun")]
    if not above or not folder.is_dir():
        return
    if for_copies(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            for one in (folder.parent, above[0], above[0].parent):
                one.rmdir()
        return
    with contextlib.suppress(OSError):
        inside = list(folder.iterdir())
        for job in inside:
            if job.is_dir():
                with contextlib.suppress(OSError):
                    job.rmdir()  # only if it is empty
        if refused and [one.name for one in folder.iterdir()] == ["multirun.yaml"]:
            (folder / "multirun.yaml").unlink()
        folder.rmdir()
        folder.parent.rmdir()
        if above[0] in _added:
            above[0].rmdir()
