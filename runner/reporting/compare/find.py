"""Finds the sweep or run that a name refers to."""

import re
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UsageError
from runner.store.records import RunRecord, latest_sweep, read_records
from runner.util.names import Name

_NUMBER = re.compile(r"^\d+-")
"""How the name of a run begins."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    name: str
    records: list[RunRecord]
    is_run: bool
    """One run was asked for, which is compared with whatever stands opposite."""


def find_side(runs: Path, wanted: str) -> Side:
    """The records of ``SWEEP``, ``SWEEP/RUN`` or ``latest``.

    A beginning is enough where it is unique, and of a run its number, or the beginning of what
    follows that: ``SWEEP/gptq``.

    Raises:
        UsageError: Nothing, or more than one, is called so.
    """
    sweep_wanted, _, run_wanted = wanted.strip("/").partition("/")
    sweep_wanted = Name.shortened(sweep_wanted)
    sweeps = [path.name for path in runs.glob("*") if path.is_dir()]
    if sweep_wanted == "latest" and "latest" not in sweeps:
        sweep_wanted = latest_sweep(runs) or sweep_wanted
    sweep = _only(sweep_wanted, sweeps, "sweep")
    records = read_records(runs, sweep)
    if not run_wanted:
        if not records:
            raise UsageError(f"sweep {sweep} has no records")
        return Side(sweep, records, is_run=False)
    numbered = [record.run for record in records if str(record.number) == run_wanted]
    if len(numbered) == 1:
        run_wanted = numbered[0]
    names = [record.run for record in records]
    run = _only(run_wanted, names, f"run of sweep {sweep}", _NUMBER)
    chosen = [record for record in records if record.run == run]
    return Side(f"{sweep}/{run}", chosen, is_run=True)


def _only(wanted: str, names: list[str], what: str, number: "re.Pattern[str] | None" = None) -> str:
    if not wanted:
        raise UsageError(f"the name of a sweep is empty; there are {_some(names)}")
    if wanted in names:
        return wanted
    matches = sorted(name for name in names if name.startswith(wanted))
    if not matches and number is not None:
        matches = sorted(name for name in names if number.sub("", name).startswith(wanted))
    if len(matches) == 1:
        return matches[0]
    shown = _some(matches or names)
    called = wanted if wanted.isprintable() else ascii(wanted)
    problem = f"{len(matches)} match {called}…" if matches else f"no {what} matches {called}"
    raise UsageError(f"{problem}; {'choose one of' if matches else 'there are'}: {shown}")


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[-5:]) or "none"
