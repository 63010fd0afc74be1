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

from runner.answer.differences import Differences
from runner.answer.rows import Row
from runner.answer.scope import scopes
from runner.answer.speed import shown_speed
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
            (row, (float(own[0] or 0), own[1] or 0.0, own[2] or 0.0))
            for row, own in costs
            if measured and all(own[n] is not None for n in measured)
        ]
        for row in _stars(complete, differences):
            row.best_tradeoff = True


def seconds(speed: float | None) -> float | None:
    """A speed as a cost."""
    return 1 / speed if speed else None


def _stars(
    rows: list[tuple[Row, tuple[float, float, float]]], differences: Differences
) -> list[Row]:
    starred: list[tuple[Row, tuple[float, float, float]]] = []
    for row, cost in sorted(rows, key=lambda one: one[1]):
        if not any(_beats(one, own, row, cost, differences) for one, own in starred):
            starred.append((row, cost))
    return [row for row, _ in starred]


def _beats(
    one: Row,
    own: tuple[float, float, float],
    row: Row,
    cost: tuple[float, float, float],
    differences: Differences,
) -> bool:
    if own[0] > cost[0] or own[1] > cost[1]:
        return False
    if own[:2] == cost[:2]:
        return differences.shown_worse(row, one)
    return not differences.shown_worse(one, row)
