"""Which limits of ``decide`` a recipe is known not to meet while its run is still going on."""

from runner.config.schema.decide import Decide
from runner.reporting.rows import rows_of
from runner.reporting.verdict.limits import State, limits_set
from runner.store.records import RunRecord
from runner.util.serialise import from_json


def ruled_out(record: RunRecord) -> str | None:
    """Why a recipe cannot be taken any more; ``None`` if it may be.

    As the verdict judges it. What quality was not measured is not shown to be good enough; of size,
    memory and speed only what was measured counts.
    """
    decide = from_json(Decide, record.config.get("decide") or {})
    row = next((row for row in rows_of([record]) if not (row.is_baseline or row.is_floor)), None)
    if row is None:
        return None
    found = [(limit, limit.finding(row, bound)) for limit, bound in limits_set(decide)]
    wrong = [
        one.says
        for limit, one in found
        if one.state is State.broken or (limit.is_quality and one.state is not State.kept)
    ]
    return "; ".join(wrong) or None
