"""Errors that end a run with one clear message instead of a traceback."""

from runner.shown import tell

USAGE_EXIT_CODE = 2


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
    """Print what is wrong with a request on standard error; returns the exit code for it."""
    tell(f"runner: {message}", error=True)
    return USAGE_EXIT_CODE
