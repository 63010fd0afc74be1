"""Compares two runs or two sweeps: what differs, by how much, and whether it is noise."""

from pathlib import Path

from runner.config.schema.root import Config, StageName
from runner.errors import UsageError
from runner.reporting.compare.find import Side, find_side
from runner.reporting.compare.pairs import pair_up
from runner.reporting.compare.show import show
from runner.store.disk_errors import is_writable
from runner.store.files import write_json_atomically
from runner.util.serialise import to_json

__all__ = ["compare"]


def compare(runs: Path, config: Config, output: Path | None) -> None:
    """Print the comparison that ``config.compare`` asks for; write ``compare.json``.

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
    show(*sides, pairs)
    if output is not None and is_writable(output):
        content = {"a": sides[0].name, "b": sides[1].name, "pairs": to_json(pairs)}
        write_json_atomically(output / "compare.json", content)
        print(f"compare.json: {output}")
