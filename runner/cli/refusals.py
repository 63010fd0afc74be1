"""Tells what is wrong with a request or a store: once, however many jobs it ends."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from runner.cli.faults import fault, tell_fault
from runner.config.errors import COMPOSITION_ERRORS, explain
from runner.errors import USAGE_EXIT_CODE, RunnerError, UsageError, complain, reason
from runner.store.disk_errors import explain_disk_error
from runner.util.shown import leave_reader


@dataclass(frozen=True)
class Refusal:
    """Why a job was not carried out, as a process of a launcher's hands it back."""

    message: str
    code: int


class Refusals:
    """What was wrong so far. Launchers take copies to other processes, which print nothing."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.codes: dict[str, int] = {}
        """The exit code for each message."""

    def tell(self, error: Exception, root: Path | None, is_placed: bool) -> Refusal | None:
        """Tell what is wrong.

        Args:
            error: What happened.
            root: The store's folder, once it is known.
            is_placed: A run has a place in the store, so that a bad file is no wrong request.

        Returns:
            What another process would tell.
        """
        if isinstance(error, BrokenPipeError) and os.getpid() == self.process:
            leave_reader()
        code = USAGE_EXIT_CODE if isinstance(error, UsageError) else 1
        message: str | None = str(error) if isinstance(error, RunnerError) else None
        if isinstance(error, OSError):
            message = explain_disk_error(error, root) if root is not None else None
            if message is None and (message := reason(error)) is not None and not is_placed:
                code = USAGE_EXIT_CODE
        if isinstance(error, OmegaConfBaseException):
            code, message = USAGE_EXIT_CODE, explain(error, sys.argv[1:])
        if message is None:
            message = fault(error, root)
        refusal = Refusal(message, code)
        if os.getpid() != self.process:
            return refusal
        self.note(refusal)
        return None

    def note(self, refusal: Refusal) -> None:
        """Print a refusal unless it has been."""
        if refusal.message not in self.codes:
            complain(refusal.message)
        self.codes[refusal.message] = refusal.code


def tell_stop(error: Exception, root: Path | None, started: bool) -> int:
    """Tell what ended Hydra's own work; returns the exit code.

    Args:
        error: What happened.
        root: The store's folder, once it is known.
        started: A job has been composed; before that every error is the user's.
    """
    if isinstance(error, BrokenPipeError):
        leave_reader()
    if isinstance(error, RunnerError):
        complain(error)
        return USAGE_EXIT_CODE if isinstance(error, UsageError) else 1
    if isinstance(error, COMPOSITION_ERRORS) and not started:
        return complain(explain(error, sys.argv[1:]))
    if isinstance(error, OSError) and not started:
        return complain(reason(error) or f"{error.filename or 'a file'}: {error.strerror}")
    return tell_fault(error, root)
