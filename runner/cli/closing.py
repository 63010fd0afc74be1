"""Finishes a sweep: makes the answer from its runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.multirun.run_location import RunLocation
from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.config.schema.root import Config


def has_records(place: RunLocation) -> bool:
    """Whether a run of the sweep has been recorded."""
    return any((place.runs / place.sweep).glob("*/record.json"))


def is_answered_from_records(config: "Config") -> bool:
    """Whether nothing is to be run: finished runs are read."""
    from runner.config.schema.root import StageName

    reads = {StageName.compare, StageName.gate}.intersection(config.stages)
    return bool(reads or config.stages == [StageName.report] or config.report.sweeps)


def answer_from_records(runs: Path, config: "Config", output: Path | None) -> int | None:
    """Carry out what only reads finished runs.

    Args:
        runs: Folder of all sweeps.
        config: Its stages say what.
        output: Folder for copies of the answer.

    Returns:
        The exit code; ``None`` where there are runs to carry out.

    Raises:
        UsageError: What is asked for does not go together, or is not there.
    """
    from runner.config.schema.root import StageName

    if config.stages == [StageName.report]:
        collect_and_report(runs, config, output)
        return 0
    if config.report.sweeps:
        raise UsageError("report.sweeps reads finished runs: use runner report SWEEP ...")
    if StageName.compare in config.stages:
        from runner.reporting.compare import compare

        return compare(runs, config, output)
    if StageName.gate in config.stages:
        from runner.reporting.gate import gate

        return gate(runs, config, output)
    return None


def collect_and_report(runs: Path, config: "Config", output: Path | None) -> None:
    """Make the answer of what has run, as ``runner report`` asks for.

    Args:
        runs: Folder of all sweeps.
        config: Names the sweep or sweeps; the latest where it names none.
        output: Folder for copies of the answer.

    Raises:
        UsageError: Both one sweep and several are named, or there is none of that name.
    """
    from runner.multirun.launchers.jobs import collect_slurm
    from runner.reporting.report import report
    from runner.store.records import latest_sweep

    several = config.report.sweeps
    if several and config.sweep:
        raise UsageError("use either report.sweeps for several sweeps or sweep for one, not both")
    sweep = None if several else config.sweep or latest_sweep(runs)
    going_on = collect_slurm(runs / sweep) if sweep else {}
    report(runs, sweep, output, decide=config.decide, page=True, figures=True, several=several)
    for run, state in sorted(going_on.items()):
        tell(f"{run}: {state.lower()}")
    if going_on:
        tell(f"{len(going_on)} of the sweep's runs have not finished")
