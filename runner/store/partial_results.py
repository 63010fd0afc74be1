"""Finished units of long work (windows, requests, layers), kept for the next attempt."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.store.files import sha256_of_file
from runner.store.journal import Journal

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_array(path: Path, array: "NDArray[Any]", journal: Journal) -> None:
    """Write a ``.npy`` file beside ``path``, note its digest and rename it.

    A reader sees all or nothing, and what is there has been noted.
    """
    import numpy as np

    _publish(path, journal, lambda beside: np.save(beside, array, allow_pickle=False))


def _publish(path: Path, journal: Journal, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        write(beside)
        journal.note(path.name, sha256_of_file(beside))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class PartialResults:
    """Arrays and JSON values by name below a directory, usually ``StageContext.partial``.

    What is there is whole: each is written beside its place and renamed into it, and one that is
    not what was noted of it counts as not there. A stage asks for a unit before it computes it,
    so that an attempt after a kill computes the rest only.
    """

    def __init__(self, directory: Path) -> None:
        """Use ``directory``, which is made when the first unit is kept."""
        self._directory = directory
        self._journal = Journal(directory)

    def array(self, name: str, compute: Callable[[], "NDArray[Any]"]) -> "NDArray[Any]":
        """The array kept under ``name``; computed and kept when there is none."""
        import numpy as np

        path = self._directory / f"{name}.npy"
        if self._journal.is_sound(path.name):
            stored: NDArray[Any] = np.load(path, allow_pickle=False)
            return stored
        computed = compute()
        write_array(path, computed, self._journal)
        return computed

    def value(self, name: str, compute: Callable[[], Any]) -> Any:
        """The JSON value kept under ``name``; computed and kept when there is none."""
        path = self._directory / f"{name}.json"
        if self._journal.is_sound(path.name):
            return json.loads(path.read_text("utf-8"))
        computed = compute()
        text = json.dumps(computed)
        _publish(path, self._journal, lambda beside: beside.write_text(text, "utf-8"))
        return computed

    def __contains__(self, name: str) -> bool:
        """Whether something whole is kept under ``name``."""
        return any(self._journal.is_sound(f"{name}{end}") for end in (".npy", ".json"))

    def drop(self, name: str) -> None:
        """Keep nothing under ``name`` any more."""
        for end in (".npy", ".json"):
            (self._directory / f"{name}{end}").unlink(missing_ok=True)
