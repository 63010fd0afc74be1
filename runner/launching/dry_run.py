"""What a run would be, told without doing it."""

from pathlib import Path

from runner.config.root import Config
from runner.errors import UsageError
from runner.experiment.facts import gather_facts
from runner.experiment.run import RunIdentity, kept_record, new_record
from runner.hardware.detect import detect
from runner.legality.check import check
from runner.legality.verdict import Severity


def describe(config: Config, runs: Path, identity: RunIdentity) -> str:
    """Lines about one run: whether it is legal here, and whether the sweep has its result.

    Args:
        config: The run's configuration.
        runs: The store's folder of records.
        identity: Where it would be filed.
    """
    machine = detect()
    record = new_record(config, machine, identity)
    try:
        verdicts = check(config, gather_facts(config, machine, identity.overrides))
    except UsageError as error:
        return f"{record.run}  {record.model} on {record.engine}: wrong: {error}"
    illegal = [str(v) for v in verdicts if v.severity is Severity.illegal]
    warnings = [f"  warning: {v}" for v in verdicts if v.severity is Severity.warning]
    state = f"would be skipped: {'; '.join(illegal)}" if illegal else "would run"
    if not illegal and kept_record(runs, record, config) is not None:
        state = "is done, would be kept"
    return "\n".join([f"{record.run}  {record.model} on {record.engine}: {state}", *warnings])
