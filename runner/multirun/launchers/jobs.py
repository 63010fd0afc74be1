"""Which job executes which run, and its state."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from runner.store.checked_files import read_kept
from runner.store.files import write_json_atomically
from runner.store.records import Status, close_record

JOBS_FILE = "jobs.json"
UNKNOWN = "UNKNOWN"
"""State of a job that the scheduler has forgotten."""
NO_ANSWER = "NO ANSWER"
"""State of a job while the scheduler cannot be asked; it may well be going on."""

_STATUS = {
    "BOOT_FAIL": Status.failed,
    "CANCELLED": Status.cancelled,
    "COMPLETED": Status.failed,
    "DEADLINE": Status.timeout,
    "FAILED": Status.failed,
    "NODE_FAIL": Status.failed,
    "OUT_OF_MEMORY": Status.oom,
    "REVOKED": Status.cancelled,
    "TIMEOUT": Status.timeout,
}
_ENDED = frozenset({*_STATUS, UNKNOWN})
_FORGOTTEN = "Invalid job id"
"""What squeue complains of when it no longer knows any of the jobs."""


def write_jobs(sweep: Path, jobs: dict[str, str]) -> None:
    """Note the Slurm job of each run, by the run's directory name, beside the sweep's records.

    Jobs of an earlier submission of the sweep are kept for runs that are not submitted anew.
    """
    write_json_atomically(sweep / JOBS_FILE, {**read_jobs(sweep), **jobs})


def read_jobs(sweep: Path) -> dict[str, str]:
    """Slurm job ids by run; empty for a sweep that Slurm knows nothing of."""
    return {str(run): str(job) for run, job in (read_kept(sweep / JOBS_FILE) or {}).items()}


def slurm_states(jobs: Iterable[str]) -> dict[str, str]:
    """State of each job: ``PENDING``, ``RUNNING``, ``COMPLETED``, ``TIMEOUT`` and so on.

    The controller is asked first: it answers without an accounting database, for some minutes
    after a job has ended. Older ones are looked up with ``sacct`` where that works. A controller
    that is too busy to answer says nothing of its jobs.
    """
    wanted = set(jobs)
    mains = ",".join(sorted({job.partition("_")[0] for job in wanted}))
    states, answered = _table(["squeue", "-h", "-r", "-t", "all", "-j", mains, "-o", "%i|%T"])
    if wanted - states.keys():
        older, _ = _table(["sacct", "-X", "-n", "-P", "-j", mains, "-o", "JobID,State"])
        states = {**older, **states}
    return {job: states.get(job, UNKNOWN if answered else NO_ANSWER) for job in wanted}


def _table(command: list[str]) -> tuple[dict[str, str], bool]:
    """States by job, and whether they are all that is known."""
    if shutil.which(command[0]) is None:
        return {}, True
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    pairs = (line.strip().split("|", 1) for line in done.stdout.splitlines() if "|" in line)
    answered = done.returncode == 0 or _FORGOTTEN in done.stderr
    # "CANCELLED by 1000" is a state of sacct's.
    return {job: state.split()[0] for job, state in pairs if state.strip()}, answered


def collect(sweep: Path, states: dict[str, str]) -> dict[str, str]:
    """Close the records of runs whose jobs ended without doing so themselves.

    Args:
        sweep: The sweep's directory of records.
        states: State of each run's job, by the run's directory name.

    Returns:
        The runs that are not over, and their jobs' states.
    """
    for run, state in states.items():
        if state in _ENDED:
            status = _STATUS.get(state, Status.interrupted)
            reason = f"its job ended as {state}"
            if state == UNKNOWN:
                reason = "the scheduler no longer lists its job"
            close_record(sweep / run / "record.json", status, reason)
    return {run: state for run, state in states.items() if state not in _ENDED}


def collect_slurm(sweep: Path) -> dict[str, str]:
    """Close what has ended of a sweep under Slurm; the rest, with its jobs' states."""
    jobs = read_jobs(sweep)
    if not jobs:
        return {}
    states = slurm_states(jobs.values())
    return collect(sweep, {run: states[job] for run, job in jobs.items()})
