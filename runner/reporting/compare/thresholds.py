"""Thresholds of a comparison: what b may lose against a, tested as a release gate tests it."""

from dataclasses import fields

from runner.config.schema.compare import Compare
from runner.config.schema.gate import Gate
from runner.errors import UsageError
from runner.reporting.compare.find import Side
from runner.reporting.gate.judge import GateVerdict, judge
from runner.reporting.gate.pairs import opposed


def tested(asked: Compare, a: Side, b: Side) -> GateVerdict | None:
    """What the thresholds say of b; ``None`` where none is set.

    Raises:
        UsageError: A side has no quantized run, or nothing was measured for a threshold.
    """
    names = [one.name for one in fields(Gate) if one.name.startswith(("min_", "max_"))]
    limits = {name: getattr(asked, name) for name in names}
    gate = Gate(candidate=b.name, against=a.name, alpha=asked.alpha, **limits)
    if not gate.criteria:
        return None
    try:
        return judge(gate, opposed(gate, b, a), b.name)
    except UsageError as error:
        raise UsageError(
            str(error).replace("gate.", "compare.").replace("gate:", "compare:")
        ) from None
