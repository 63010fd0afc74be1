"""What a job of a cluster does: the command line of one run, in a process of its own."""

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.store.records import Status, close_record

SWEEP_VARIABLE = "QUANT_RUNNER_SWEEP"
"""The sweep that a process's runs belong to, unless its configuration names one."""
NOT_BEGUN = "handed to the cluster; not begun"
"""What the record of a run says until its job begins."""
RUN_VARIABLE = "QUANT_RUNNER_RUN"
"""Number of the one run that this process carries out for a sweep elsewhere."""


@dataclass
class Task:
    """One run of a sweep. Calling it carries the run out and files its record."""

    arguments: list[str]
    """Command line without the program."""
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
            [sys.executable, "-m", "runner", *self.arguments], env={**os.environ, **variables}
        )
        try:
            code = process.wait()
        except BaseException as stop:
            process.kill()
            process.wait()
            # What submitit raises in the midst of a job whose time is over. A job that is put
            # back into the queue leaves by SystemExit, and its record open.
            if type(stop).__name__ == "UncompletedJobError":
                close_record(self.record, Status.timeout, "its time limit was over")
            raise
        if code != 0:
            raise RuntimeError(f"the run ended with code {code}")
        return code

    def checkpoint(self) -> Any:
        """What is run when a preempted job comes back: the same, which finds finished stages."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def own_number() -> int | None:
    """The run's number in its sweep, in a process that a launcher started for it."""
    with contextlib.suppress(KeyError):
        return int(os.environ[RUN_VARIABLE])
    return None
