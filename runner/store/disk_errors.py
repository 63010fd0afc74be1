"""Disk errors of the store: one message each, with what to do."""

import contextlib
import errno
import functools
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from runner.errors import StageError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


def explain_disk_error(error: Exception, root: Path) -> str | None:
    """What an error says of the disk below ``root``; ``None`` when it is about something else.

    Args:
        error: An ``OSError``, or a worker's failure: libraries tell the system's words in errors
            and logs of their own.
        root: The store's.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in _CLOSED and not _may_lie_below(root, error):
        return None  # of an interpreter, or a model's file
    text = "\n".join([str(error), *getattr(error, "log_tail", [])])
    if number in _FULL or any(os.strerror(code) in text for code in _FULL):
        return (
            f"no room to write in the store {root}{_room(root)}: free space (runner store prune) "
            "or use another store (store.root=PATH), then repeat the command; finished results "
            "are kept"
        )
    if number in _CLOSED or os.strerror(errno.EROFS) in text:
        reason = os.strerror(number or errno.EROFS).lower()
        return _unwritable(root, reason)
    return None


def _unwritable(root: Path, reason: str) -> str:
    return (
        f"the store {root} cannot be written to ({reason}): name another with store.root=PATH "
        "or QUANT_RUNNER_STORE; reading it still works: runner report"
    )


@contextlib.contextmanager
def disk_errors_explained(root: Path) -> Iterator[None]:
    """Turn errors of the disk below ``root`` into a ``StageError`` that says so."""
    try:
        yield
    except (OSError, StageError) as error:
        what = explain_disk_error(error, root)
        if what is None:
            raise
        raise StageError(what) from error


def require_writable(root: Path) -> None:
    """See that files can be made below ``root``, which need not exist.

    Raises:
        UsageError: They cannot.
    """
    probe = root / f".writable-{uuid.uuid4().hex[:8]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(4096))  # an empty file fits on a full disk
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        what = explain_disk_error(error, root) or _unwritable(root, str(error.strerror).lower())
        raise UsageError(what) from None


def is_writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, which is made if it does not exist."""
    try:
        require_writable(folder)
    except (UsageError, OSError):
        return False
    return True


def _may_lie_below(root: Path, error: Exception) -> bool:
    """Whether an error is of a file of the store's, as far as it says."""
    named = getattr(error, "filename", None)
    if not isinstance(named, str) or not Path(named).is_absolute():
        return True
    return Path(named).is_relative_to(root) or root.is_relative_to(named)


@functools.cache  # as it was at first: the same complaint of several jobs is told once
def _room(root: Path) -> str:
    try:
        usage = shutil.disk_usage(root)
    except OSError:
        return ""
    return f" ({usage.free / 1e6:.1f} of {usage.total / 1e6:.0f} MB are free)"
