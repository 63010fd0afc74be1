"""Selects the records for an answer: one sweep's, or several sweeps' together."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.errors import UsageError
from runner.reporting.compare.find import find_side
from runner.store.distinct_names import tell_apart
from runner.store.records import RunRecord, latest_sweep, read_records


@dataclass(frozen=True)
class Selection:
    """Records, and what they are called together."""

    name: str
    records: list[RunRecord]
    folder: Path | None
    """The sweep's own; ``None`` where there are several."""
    read: dict[str, list[RunRecord]] = field(default_factory=dict)
    """The records of whole sweeps as they were read, before what is called alike is told apart."""


def one_sweep(runs: Path, sweep: str | None) -> Selection:
    """A sweep by its id; the latest by default.

    Raises:
        UsageError: There is no such sweep, or none at all.
    """
    sweep = sweep or latest_sweep(runs)
    if not sweep:
        raise UsageError("the store has no records yet: run an experiment first")
    records = read_records(runs, sweep)
    if not records:
        known = sorted((path.name for path in runs.glob("*") if path.is_dir()), reverse=True)[:5]
        raise UsageError(
            f"the store has no records of sweep {sweep}; latest: {', '.join(known) or 'none'}"
        )
    return Selection(sweep, tell_apart(records), runs / sweep, {sweep: records})


def several_sweeps(runs: Path, wanted: Sequence[str]) -> Selection:
    """Sweeps, or runs of them, in the order asked for. Each run once, and called ``SWEEP/RUN``.

    Args:
        runs: The store's folder of records.
        wanted: What ``find_side`` understands.

    Raises:
        UsageError: One of them is not there.
    """
    records: dict[str, RunRecord] = {}
    for name in wanted:
        for record in find_side(runs, name).records:
            called = f"{record.sweep}/{record.run}"
            records[called] = replace(record, run=called)
    name = ", ".join(dict.fromkeys(record.sweep for record in records.values()))
    return Selection(name, tell_apart(list(records.values())), None)
