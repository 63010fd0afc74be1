"""Errors that end a run with one clear message instead of a traceback."""

import errno

from runner.util.shown import tell

USAGE_EXIT_CODE = 2
_MOST_CHARACTERS = 3000
"""Of a message; what is left out is a word's that is far too long."""
_NAMED = (
    errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR,
    errno.EISDIR, errno.EEXIST, errno.ENXIO,
)  # fmt: skip
"""What the system objects to in a path, rather than in what was made of it."""


class RunnerError(Exception):
    """A problem a user can act on. The message names the fix."""


class UsageError(RunnerError):
    """The request itself is wrong; nothing was started. Ends with exit code 2."""


class StageError(RunnerError):
    """A stage could not finish. The run is recorded as failed."""


class Refused(StageError):
    """A stage looked and will not begin its work. The run is recorded as skipped."""


class NotThere(RunnerError):
    """A dry run came to a result that is not there, and what follows hangs on what it says."""


def complain(message: object) -> int:
    """Print what is wrong with a request on standard error; returns the exit code for it.

    It takes one line, whatever was given: names and paths are in it as they are.
    """
    text = str(message).replace("\n", "\\n").replace("\t", "\\t")
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[: _MOST_CHARACTERS // 2]} … {text[-_MOST_CHARACTERS // 2 :]}"
    tell(f"runner: {text}", error=True)
    return USAGE_EXIT_CODE


def reason(error: OSError) -> str | None:
    """What the system says of a file that was named; ``None`` where nobody named one."""
    if error.errno not in _NAMED or error.filename is None:
        return None
    return f"{error.filename}: {str(error.strerror).lower()}"
