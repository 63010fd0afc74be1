"""The speed by which a row is compared with others."""

from collections.abc import Callable

from runner.answer.rows import Row


def shown_speed(rows: list[Row]) -> Callable[[Row], float | None]:
    """Decode tokens/s of a row among ``rows``, without what the repetitions do not show.

    A speed that is not told from the unquantized model's counts as that one, so that neither a
    star nor a recommendation is luck.
    """
    dense = {row.engine: row.decode_tokens_per_second for row in rows if row.is_baseline}

    def of(row: Row) -> float | None:
        own = row.decode_tokens_per_second
        return (dense.get(row.engine) or own) if row.decode_within_noise else own

    return of
