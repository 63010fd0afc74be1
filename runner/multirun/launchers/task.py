"""The job on a cluster: the command line of one run, in its own process."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import StageError, UsageError
from runner.store.records import Status, close_record
from runner.util.redact import redact
from runner.util.surroundings import SAFE_PATH

SWEEP_VARIABLE = "QUANT_RUNNER_SWEEP"
"""The sweep that a process's runs belong to, unless its configuration names one."""
NOT_BEGUN = "submitted to the cluster; not started"
"""What the record of a run says until its job begins."""
_HIDDEN = "QUANT_RUNNER_ARGUMENT_"
_REFERENCE = "@variable:"
RUN_VARIABLE = "QUANT_RUNNER_RUN"
"""Number of the one run that this process carries out for a sweep elsewhere."""


@dataclass
class RunTask:
    """One run of a sweep. Calling it carries the run out and files its record."""

    arguments: list[str]
    """Command line without the program, secrets ``hidden``."""
    sweep: str
    number: int
    record: Path

    def __call__(self) -> int:
        """Carry out the run.

        Raises:
            RuntimeError: The run is not ok; the scheduler then sees a failed job.
        """
        variables = {SWEEP_VARIABLE: self.sweep, RUN_VARIABLE: str(self.number)}
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", *shown(self.arguments)],
            env={**os.environ, **variables, SAFE_PATH: "1"},
        )
        try:
            code = process.wait()
        except BaseException as stop:
            process.kill()
            process.wait()
            # What submitit raises in the midst of a job whose time is over. A job that is put
            # back into the queue leaves by SystemExit, and its record open.
            if type(stop).__name__ == "UncompletedJobError":
                close_record(self.record, Status.timeout, "it exceeded its time limit")
            raise
        if code != 0:
            raise RuntimeError(f"the run ended with code {code}")
        return code

    def checkpoint(self) -> Any:
        """What is run when a preempted job comes back: the same, which finds finished stages."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def hidden(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets, to be filed: what holds one is in a variable by now.

    Launchers file what they hand over; the processes that they start have our variables.
    """
    hidden_values = {value: name for name, value in os.environ.items() if name.startswith(_HIDDEN)}
    result = []
    for argument in arguments:
        if redact(argument) != argument:
            name = hidden_values.setdefault(argument, f"{_HIDDEN}{len(hidden_values) + 1}")
            os.environ[name] = argument
            argument = f"{_REFERENCE}{name}"  # noqa: PLW2901
        result.append(argument)
    return result


def shown(arguments: Sequence[str]) -> list[str]:
    """The command line as it was given.

    Raises:
        StageError: The scheduler did not hand on a variable.
    """
    result = []
    for argument in arguments:
        name = argument.removeprefix(_REFERENCE)
        if name != argument and name not in os.environ:
            raise StageError(
                f"an override with a secret was passed in the variable {name}, which did not "
                "arrive; let the scheduler export the submitter's environment"
            )
        result.append(argument if name == argument else os.environ[name])
    return result


def own_number() -> int | None:
    """The run's number in its sweep, in a process that a launcher started for it.

    Raises:
        UsageError: The variable is somebody else's.
    """
    number = os.environ.get(RUN_VARIABLE)
    if number is None:
        return None
    if not (number.isascii() and number.isdecimal()):
        raise UsageError(
            f"{RUN_VARIABLE}={number} is not a number; launchers set it, so unset it here"
        )
    return int(number)
