"""Finished units of long work (windows, requests, layers), kept for an attempt after a kill."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.store.files import write_json_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_array_atomically(path: Path, array: "NDArray[Any]") -> None:
    """Write a ``.npy`` file beside ``path`` and rename it, so that a reader sees all or nothing."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.npy")
    try:
        np.save(beside, array, allow_pickle=False)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class Units:
    """Arrays and JSON values by name below a directory, usually ``StageContext.partial``.

    What is there is whole: each is written beside its place and renamed into it. A stage asks
    for a unit before it computes it, so that an attempt after a kill computes the rest only.
    """

    def __init__(self, directory: Path) -> None:
        """Use ``directory``, which is made when the first unit is kept."""
        self._directory = directory

    def array(self, name: str, compute: Callable[[], "NDArray[Any]"]) -> "NDArray[Any]":
        """The array kept under ``name``; computed and kept when there is none."""
        import numpy as np

        path = self._directory / f"{name}.npy"
        if path.exists():
            kept: NDArray[Any] = np.load(path, allow_pickle=False)
            return kept
        made = compute()
        write_array_atomically(path, made)
        return made

    def value(self, name: str, compute: Callable[[], Any]) -> Any:
        """The JSON value kept under ``name``; computed and kept when there is none."""
        path = self._directory / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text("utf-8"))
        made = compute()
        write_json_atomically(path, made)
        return made

    def __contains__(self, name: str) -> bool:
        """Whether something is kept under ``name``."""
        return any((self._directory / f"{name}{end}").exists() for end in (".npy", ".json"))
