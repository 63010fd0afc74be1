"""Sizes of environments on disk, cached: they have hundreds of thousands of files."""

import contextlib
import json
import os
import time
from functools import cached_property
from pathlib import Path

from runner.environments.create import READY_FILE
from runner.store.files import sha256_of_json, write_json_atomically

_KEPT_SECONDS = 86_400.0
"""An environment grows a little with the bytecode that its first imports write."""


class Sizes:
    """Bytes on disk of sets of directories; files that share storage count once in a set."""

    def __init__(self, cache: Path) -> None:
        """Keep what was counted in a file below ``cache``, for a day."""
        self._file = cache / "environments" / "sizes.json"
        self._files: dict[Path, dict[tuple[int, int], int]] = {}

    def of(self, directories: list[Path]) -> int:
        """Bytes of all files below ``directories``, at most a day ago."""
        identity = sha256_of_json(
            sorted((str(d), (d / READY_FILE).stat().st_mtime_ns) for d in directories)
        )
        known = self._known.get(identity)
        if known is None or not 0 <= time.time() - known["counted"] < _KEPT_SECONDS:
            files: dict[tuple[int, int], int] = {}
            for directory in directories:
                files |= self._walked(directory)
            known = {"bytes": sum(files.values()), "counted": time.time()}
            self._known[identity] = known
            with contextlib.suppress(OSError):  # a store that is only read from
                write_json_atomically(self._file, self._known)
        return int(known["bytes"])

    @cached_property
    def _known(self) -> dict[str, dict[str, float]]:
        with contextlib.suppress(OSError, ValueError):
            known: dict[str, dict[str, float]] = json.loads(self._file.read_text("utf-8"))
            return known
        return {}

    def _walked(self, directory: Path) -> dict[tuple[int, int], int]:
        """Bytes by device and inode."""
        if directory not in self._files:
            sizes = self._files[directory] = {}
            for folder, _, names in os.walk(directory):
                for name in names:
                    status = os.lstat(os.path.join(folder, name))  # noqa: PTH118
                    sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
        return self._files[directory]
