"""Which rows are not dominated by another in size, quality and speed."""

from runner.answer.rows import Row
from runner.answer.scope import scopes
from runner.answer.speed import shown_speed
from runner.metrics.front import non_dominated
from runner.store.records import Status


def mark_best_tradeoffs(rows: list[Row]) -> None:
    """Set ``best_tradeoff`` on rows that no comparable row beats or equals everywhere.

    Measured columns alone count; a row that lacks one the others have is not marked. Where no
    perplexity was measured, the share of right answers is the quality. Of speeds counts what
    ``shown_speed`` gives.
    """
    for row in rows:
        row.best_tradeoff = False
    for comparable in scopes(rows).values():
        speed_of = shown_speed(comparable)
        costs = [
            (row, _costs(row, speed_of(row))) for row in comparable if row.status == Status.ok.value
        ]
        columns = {name for _, own in costs for name, cost in own.items() if cost is not None}
        if "perplexity" in columns:
            columns.discard("errors")
        complete = [
            (row, point)
            for row, own in costs
            if columns and None not in (point := [own[name] for name in columns])
        ]
        points = [[value for value in point if value is not None] for _, point in complete]
        for (row, _), best in zip(complete, non_dominated(points), strict=True):
            row.best_tradeoff = best


def _costs(row: Row, speed: float | None) -> dict[str, float | None]:
    accuracy = row.task_accuracy
    return {
        "bytes": row.checkpoint_bytes,
        "perplexity": row.perplexity,
        "errors": None if accuracy is None else 1 - accuracy,
        "seconds_per_token": 1 / speed if speed else None,
    }
