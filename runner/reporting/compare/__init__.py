"""Compares two runs or two sweeps: what differs, by how much, and whether it is noise."""

from pathlib import Path

from runner.config.schema.root import Config, StageName
from runner.errors import UsageError
from runner.reporting.compare.find import Side, find_side
from runner.reporting.compare.markdown import markdown
from runner.reporting.compare.pairs import pair_up
from runner.reporting.compare.show import show
from runner.reporting.compare.thresholds import tested
from runner.reporting.gate.show import show as show_gate
from runner.store.disk_errors import is_writable
from runner.store.files import write_json_atomically, write_text_atomically
from runner.util.serialise import to_json

__all__ = ["compare"]


def compare(runs: Path, config: Config, output: Path | None) -> int:
    """Print the comparison that ``config.compare`` asks for; write ``compare.json`` and ``.md``.

    Returns:
        The exit code: 0 without thresholds, else as the gate's: 3 where b is shown to be beyond
        one, 4 where that cannot be told.

    Raises:
        UsageError: A side is not named or not there, or other stages are asked for too.
    """
    if config.stages != [StageName.compare]:
        raise UsageError("compare reads finished runs: use runner compare A B")
    if config.compare.a is None or config.compare.b is None:
        raise UsageError(
            "compare needs two sides: compare.a=SWEEP compare.b=SWEEP, or SWEEP/RUN for one run"
        )
    sides: tuple[Side, Side] = (
        find_side(runs, config.compare.a),
        find_side(runs, config.compare.b),
    )
    pairs = pair_up(*sides, allow_different_dtypes=config.compare.allow_different_dtypes)
    verdict = tested(config.compare, *sides)
    show(*sides, pairs)
    if verdict is not None:
        show_gate(verdict, "thresholds")
    if output is not None and is_writable(output):
        names = sides[0].name, sides[1].name
        content = {"a": names[0], "b": names[1], "pairs": to_json(pairs)}
        if verdict is not None:
            content["thresholds"] = to_json(verdict)
        write_json_atomically(output / "compare.json", content)
        write_text_atomically(output / "compare.md", markdown(names, pairs, verdict))
        print(f"compare.json and compare.md: {output}")
    return 0 if verdict is None else verdict.exit_code
