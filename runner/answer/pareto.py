"""Which rows are not dominated by another in size, quality and speed."""

from runner.answer.rows import Row
from runner.answer.scope import scopes
from runner.metrics.front import non_dominated
from runner.store.records import Status


def mark_best_tradeoffs(rows: list[Row]) -> None:
    """Set ``best_tradeoff`` on rows that no comparable row beats or equals everywhere.

    Measured columns alone count; a row that lacks one the others have is not marked. Where no
    perplexity was measured, the share of right answers is the quality. A speed that is not told
    from the unquantized model's counts as that one, so that no star is luck.
    """
    for row in rows:
        row.best_tradeoff = False
    for comparable in scopes(rows).values():
        dense = {row.engine: row.decode_tokens_per_second for row in comparable if row.is_baseline}
        costs = [(row, _costs(row, dense)) for row in comparable if row.status == Status.ok.value]
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


def _costs(row: Row, dense: dict[str, float | None]) -> dict[str, float | None]:
    speed, accuracy = row.decode_tokens_per_second, row.task_accuracy
    if row.decode_within_noise:
        speed = dense.get(row.engine) or speed
    return {
        "bytes": row.checkpoint_bytes,
        "perplexity": row.perplexity,
        "errors": None if accuracy is None else 1 - accuracy,
        "seconds_per_token": 1 / speed if speed else None,
    }
