"""Which rows are not dominated by another in size, quality and speed."""

from runner.answer.rows import Row
from runner.answer.scope import scopes
from runner.metrics.front import non_dominated
from runner.store.records import Status


def mark_best_tradeoffs(rows: list[Row]) -> None:
    """Set ``best_tradeoff`` on rows that no comparable row beats or equals everywhere.

    Measured columns alone count; a row that lacks one the others have is not marked.
    """
    for comparable in scopes(rows).values():
        candidates = [row for row in comparable if row.status == Status.ok.value]
        columns = [
            index for index in range(3) if any(_costs(row)[index] is not None for row in candidates)
        ]
        complete = [
            (row, point)
            for row in candidates
            if columns and None not in (point := [_costs(row)[index] for index in columns])
        ]
        points = [[value for value in point if value is not None] for _, point in complete]
        for (row, _), best in zip(complete, non_dominated(points), strict=True):
            row.best_tradeoff = best


def _costs(row: Row) -> tuple[float | None, float | None, float | None]:
    speed = row.decode_tokens_per_second
    return row.checkpoint_bytes, row.perplexity, None if speed is None else -speed
