"""Which rows are the best trade-offs of size, quality and speed.

A row is beaten by another that is at least as small and not shown to be slower or worse, if that
one is smaller, or shown to be faster or better. So what is larger must be shown to be faster or
better: the interval of its difference must not hold zero, of quality paired on the same tokens, of
speed by the ratios of both to the unquantized model's.

"Not shown to be worse" is not transitive: of three rows, each larger than the one before,
neighbours may be alike while the first and the last are told apart. So a row is beaten only by rows
that have a star: from the smallest on, a row gets a star unless one with a star beats it. Then

- every row without a star has one with a star beside it that is at least as small and not shown to
  be slower or worse: nothing is lost by looking at stars alone;
- of two stars, the larger one is shown to be faster or better.

A recipe that is in truth another one, and larger, gets a star in 2.5% of measurements, as one end
of a 95% interval is passed by chance (``tests/unit/test_stars.py``), and in as many again where
KL divergence is there to break the tie. The unquantized model is a
row like others: it has a star where it is shown to be faster or better than what is smaller.
"""

from dataclasses import dataclass
from functools import partial

from runner.evaluation.metrics.front import unbeaten
from runner.reporting.comparable import comparable_rows
from runner.reporting.rows import Row
from runner.reporting.speed import log_ratio, ratio_is_lower, shown_speed
from runner.reporting.told_apart import Contrasts
from runner.store.records import Status


def mark_best_tradeoffs(rows: list[Row]) -> None:
    """Set ``best_tradeoff`` on the best trade-offs among comparable rows.

    Measured columns alone count; a row that lacks one the others have is not marked. Where no
    perplexity was measured, the share of right answers is the quality. Where two speeds have no
    intervals in common (other engines, old records), what ``shown_speed`` gives is compared.
    """
    for row in rows:
        row.best_tradeoff = False
    for comparable in comparable_rows(rows).values():
        contrasts, speed_of = Contrasts(comparable), shown_speed(comparable)
        costs = [
            (row, (row.checkpoint_bytes, seconds(speed_of(row)), contrasts.quality(row)))
            for row in comparable
            if row.status == Status.ok.value
        ]
        measured = [n for n in range(3) if any(cost[n] is not None for _, cost in costs)]
        complete = [
            # What nobody has is equal for all.
            _Point(row, float(own[0] or 0), own[1] or 0.0, own[2] or 0.0, log_ratio(row))
            for row, own in costs
            if measured and all(own[n] is not None for n in measured)
        ]
        complete.sort(key=lambda point: (point.seconds, point.quality))
        for point in unbeaten(complete, lambda point: point.size, partial(_beats, contrasts)):
            point.row.best_tradeoff = True


def seconds(speed: float | None) -> float | None:
    """A speed as a cost."""
    return 1 / speed if speed else None


@dataclass(frozen=True)
class _Point:
    row: Row
    size: float
    seconds: float
    quality: float
    """An estimate: it orders, and tells nothing apart."""
    log_ratio: tuple[float, float] | None
    """Of its speed to the unquantized model's."""


def _beats(contrasts: Contrasts, one: _Point, other: _Point) -> bool:
    if one.size > other.size or _slower(one, other) or contrasts.shown_worse(one.row, other.row):
        return False
    return one.size < other.size or _slower(other, one) or contrasts.shown_worse(other.row, one.row)


def _slower(one: _Point, other: _Point) -> bool:
    is_slower = None
    if one.row.engine == other.row.engine:
        is_slower = ratio_is_lower(one.log_ratio, other.log_ratio)
    return one.seconds > other.seconds if is_slower is None else is_slower
