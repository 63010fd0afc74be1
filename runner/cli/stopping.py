"""What is told when Ctrl-C stops a command line: what is there so far, and how to go on."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.cli.closing import has_records
from runner.errors import RunnerError
from runner.multirun.launchers.task import own_number
from runner.store.records import Status, read_records
from runner.util.redact import redact
from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.cli.invocation import Invocation


def tell_stopped(invocation: "Invocation", arguments: Sequence[str]) -> int:
    """Print the table so far and the command that goes on; returns the exit code.

    Args:
        invocation: What was stopped.
        arguments: The command line as it was typed.
    """
    from runner.multirun.grid import GridSweeper

    invocation.close()
    place = invocation.place or invocation.asked
    if place is None or invocation.dry_run is not None or own_number() is not None:
        tell("runner: stopped; finished stages are kept and reused", error=True)
        return 130
    done = ""
    if has_records(place):
        done = _so_far(invocation, len(GridSweeper.jobs) if invocation.multirun else 1)
    tell(f"runner: stopped{done}; finished stages are kept. To go on:", error=True)
    tell(f"  {going_on(arguments, place.sweep)}", error=True)
    return 130


def going_on(arguments: Sequence[str], sweep: str) -> str:
    """The command that takes a sweep up again, as it is typed into a shell.

    Args:
        arguments: Those that it was started with.
        sweep: Its name, which they may lack.
    """
    named = any(one.lstrip("+").startswith("sweep=") for one in arguments)
    words = [*map(str, redact([*arguments])), *([] if named else [f"sweep={sweep}"])]
    return shlex.join(["runner", *words])


def _so_far(invocation: "Invocation", jobs: int) -> str:
    from runner.reporting.report import report

    place = invocation.place or invocation.asked
    assert place is not None
    try:
        records = report(place.runs, place.sweep, invocation.output)
    except (RunnerError, OSError):  # that of a stopped sweep is an extra
        records = read_records(place.runs, place.sweep)
    done = sum(record.status in (Status.ok, Status.skipped) for record in records)
    return f" with {done} of {max(jobs, len(records))} runs done"
