"""Whether a run is in progress, by its process's lock.

The operating system frees the lock when its holder dies, however it dies. It is one of ``flock``,
which Linux hands on to the server of a shared file system.
"""

import contextlib
import fcntl
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

_TRIES = 3
_BETWEEN_SECONDS = 0.005
"""Another process that looks holds the lock for far less."""


def _lock_file(record: Path) -> Path:
    """Of the run with this record: ``runs/<sweep>/<run>/record.json`` below the store's root."""
    run, sweep = record.parent.name, record.parent.parent.name
    digest = hashlib.sha256(f"{sweep}/{run}".encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return record.parents[3] / "locks" / f"run-{digest}.lock"


@contextlib.contextmanager
def carried_out(record: Path) -> Iterator[None]:
    """Within the block, the run with this record is known to be carried out.

    Where a file system has no locks it is not known.
    """
    path = _lock_file(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        # Shared: two starts of one sweep may be at the same run.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_carried_out(record: Path) -> bool | None:
    """Whether a process is at the run with this record; ``None`` where that cannot be told."""
    try:
        with _lock_file(record).open("rb+") as file:
            for _ in range(_TRIES):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_BETWEEN_SECONDS)
                else:
                    return False
            return True
    except OSError:
        return None
