"""Whether finished runs may be released: criteria, each with a non-inferiority test."""

from pathlib import Path

from runner.config.schema.gate import BASE
from runner.config.schema.root import Config, StageName
from runner.errors import UsageError
from runner.evaluation.metrics.noninferiority import Outcome
from runner.reporting.compare.find import find_side
from runner.reporting.gate.judge import GateVerdict, judge
from runner.reporting.gate.pairs import followed_by, opposed
from runner.reporting.gate.show import junit, markdown, show
from runner.reporting.tracking.promote import promote
from runner.store.disk_errors import is_writable
from runner.store.files import write_json_atomically, write_text_atomically
from runner.util.serialise import to_json
from runner.util.shown import tell

__all__ = ["GateVerdict", "gate"]


def gate(runs: Path, config: Config, output: Path | None) -> int:
    """Print what the gate says; write ``gate.md``, ``gate.xml`` and ``gate.json``.

    Args:
        runs: Folder of all sweeps.
        config: Its section ``gate`` says what is tested.
        output: Folder for the files; ``None`` for none.

    Returns:
        The exit code: 0 where every criterion passes, 3 where one fails, 4 where none fails and
        one cannot be told.

    Raises:
        UsageError: A side is not there or was not measured, no criterion is set, or other stages
            are asked for too.
    """
    asked = config.gate
    if config.stages != [StageName.gate]:
        raise UsageError("gate reads finished runs: use runner gate SWEEP/RUN")
    side = find_side(runs, asked.candidate or "latest")
    against = None if asked.against == BASE else find_side(runs, asked.against)
    if against is not None and against.name == side.name:
        raise UsageError(
            f"gate: {side.name} is held against itself; gate.against={BASE} is its unquantized "
            "model"
        )
    pairs = opposed(asked, side, against)
    verdict = judge(asked, pairs, side.name)
    show(verdict)
    if output is not None and is_writable(output):
        write_json_atomically(output / "gate.json", to_json(verdict))
        write_text_atomically(output / "gate.md", markdown(verdict))
        write_text_atomically(output / "gate.xml", junit(verdict))
        tell(f"gate.md, gate.xml, gate.json: {output}")
    if verdict.outcome == Outcome.passed:
        promote(config.tracker, followed_by(config.tracker.name, pairs))
    return verdict.exit_code
