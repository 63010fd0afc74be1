"""Which rows are the best trade-offs of size, quality and speed.

A row is beaten by another that is at least as small and as fast and not shown to be worse, if that
one is smaller or faster or shown to be better. So what is larger or slower must be shown to be
better: the interval of its difference, paired on the same tokens, must not hold zero.

"Not shown to be worse" is not transitive: of three rows, each larger than the one before,
neighbours may be alike while the first and the last are told apart. So a row is beaten only by rows
that have a star. There is exactly one such choice of stars, since whoever beats comes first in
size, speed and quality: from the smallest on, a row gets a star unless one with a star beats it.
Then

- every row without a star has one with a star beside it that is at least as small and as fast and
  not shown to be worse: nothing is lost by looking at stars alone;
- of two stars, one that is larger or slower and gains neither speed nor size is shown to be
  better.

A recipe that is in truth another one, and larger, gets a star in 2.5% of measurements, as one end
of a 95% interval is passed by chance (``tests/unit/test_stars.py``). The unquantized model is a
row like others: it has a star where it is shown to be better than what is smaller and as fast.
"""

from dataclasses import dataclass
from functools import partial

from runner.answer.differences import Differences
from runner.answer.rows import Row
from runner.answer.scope import scopes
from runner.answer.speed import shown_speed
from runner.metrics.front import unbeaten
from runner.store.records import Status


def mark_best_tradeoffs(rows: list[Row]) -> None:
    """Set ``best_tradeoff`` on the best trade-offs among comparable rows.

    Measured columns alone count; a row that lacks one the others have is not marked. Where no
    perplexity was measured, the share of right answers is the quality. Of speeds counts what
    ``shown_speed`` gives.
    """
    for row in rows:
        row.best_tradeoff = False
    for comparable in scopes(rows).values():
        differences, speed_of = Differences(comparable), shown_speed(comparable)
        costs = [
            (row, (row.checkpoint_bytes, seconds(speed_of(row)), differences.quality(row)))
            for row in comparable
            if row.status == Status.ok.value
        ]
        measured = [n for n in range(3) if any(cost[n] is not None for _, cost in costs)]
        complete = [
            # What nobody has is equal for all.
            _Point(row, float(own[0] or 0), own[1] or 0.0, own[2] or 0.0)
            for row, own in costs
            if measured and all(own[n] is not None for n in measured)
        ]
        for point in unbeaten(complete, _order, partial(_beats, differences)):
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


def _order(point: _Point) -> tuple[float, float, float]:
    return point.size, point.seconds, point.quality


def _beats(differences: Differences, one: _Point, other: _Point) -> bool:
    if one.size > other.size or one.seconds > other.seconds:
        return False
    if (one.size, one.seconds) == (other.size, other.seconds):
        return differences.shown_worse(other.row, one.row)
    return not differences.shown_worse(one.row, other.row)
