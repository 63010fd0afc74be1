"""Errors that end a run with one clear message instead of a traceback."""


class RunnerError(Exception):
    """A problem a user can act on. The message names the fix."""


class UsageError(RunnerError):
    """The request itself is wrong; nothing was started. Ends with exit code 2."""


class StageError(RunnerError):
    """A stage could not finish. The run is recorded as failed."""
