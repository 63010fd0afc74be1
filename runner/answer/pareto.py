"""Which rows are not dominated by another in size, quality and speed."""

from runner.answer.rows import Row
from runner.store.records import Status


def mark_best_tradeoffs(rows: list[Row]) -> None:
    """Set ``best_tradeoff`` on rows that no other row of their model beats or equals everywhere.

    Measured columns alone count; a row that lacks one the others have is not marked.
    """
    for model in {row.model for row in rows}:
        candidates = [row for row in rows if row.model == model and row.status == Status.ok.value]
        columns = [
            index for index in range(3) if any(_costs(row)[index] is not None for row in candidates)
        ]
        points = {id(row): [_costs(row)[index] for index in columns] for row in candidates}
        complete = {
            key: [v for v in p if v is not None] for key, p in points.items() if None not in p
        }
        for row in candidates:
            point = complete.get(id(row))
            row.best_tradeoff = bool(point) and not any(
                _dominates(other, point) for other in complete.values()
            )


def _costs(row: Row) -> tuple[float | None, float | None, float | None]:
    speed = row.decode_tokens_per_second
    return row.checkpoint_bytes, row.perplexity, None if speed is None else -speed


def _dominates(one: list[float], other: list[float] | None) -> bool:
    if other is None:
        return False
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
