"""Which limits of ``decide`` a recipe is known not to meet while its run is still going on."""

from runner.config.schema.decide import Decide
from runner.reporting.rows import rows_of
from runner.reporting.verdict.limits import State, limits_set
from runner.store.records import RunRecord
from runner.util.serialise import from_json


def ruled_out(record: RunRecord) -> str | None:
    """Why a recipe cannot be taken whatever its speed turns out to be; ``None`` if it may be.

    By quality and by size, as the verdict judges them: what was not measured has not been shown to
    be good enough. The unquantized model meets every limit of quality.
    """
    decide = from_json(Decide, record.config.get("decide") or {})
    limits = [
        (limit, bound)
        for limit, bound in limits_set(decide)
        if limit.is_quality or "quantize" in limit.measured_by
    ]
    row = next((row for row in rows_of([record]) if not (row.is_baseline or row.is_floor)), None)
    if row is None or not limits:
        return None
    found = [limit.finding(row, bound) for limit, bound in limits]
    return "; ".join(one.says for one in found if one.state is not State.kept) or None
