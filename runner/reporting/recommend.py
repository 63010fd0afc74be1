"""Recommended recipes: for quality, for size and for speed within a tolerated loss."""

from collections.abc import Callable
from dataclasses import dataclass, field

from runner.reporting.rows import Row
from runner.reporting.speed import shown_speed
from runner.reporting.told_apart import Contrasts
from runner.store.records import Status

TOLERANCES: tuple[float | None, ...] = (0.01, 0.05, 0.10, 0.25, None)
"""Tolerated losses, as fractions of the unquantized model's quality; ``None`` is any: increases of
perplexity, or decreases of the share of right answers where no perplexity was measured."""
USUAL_TOLERANCE = 0.10


@dataclass(frozen=True)
class Picks:
    """The rows to take; ``None`` where no row has the figure."""

    tolerance: float | None
    quality: Row | None
    """Of the quantized ones that nothing is shown to be better than, the smallest."""
    size: Row | None
    speed: Row | None
    """Most decode tokens/s; the unquantized model where nothing was shown to be faster."""
    alike: list[Row] = field(default_factory=list)
    """Rows whose quality is not told apart from that of the best for quality."""


def picks(rows: list[Row], tolerance: float | None) -> Picks:
    """Choose among the rows of a scope those that lost no more than ``tolerance``.

    The loss counts with its whole 95% interval: the end that is worst must be tolerable. A row
    without a comparison with the unquantized model counts only where any loss is tolerated.
    """
    contrasts = Contrasts(rows)
    candidates = [
        row
        for row in rows
        if row.status == Status.ok.value and tolerable(row, tolerance, contrasts.by_perplexity)
    ]
    quantized = [row for row in candidates if not row.is_baseline]
    speed_of = shown_speed(rows)
    quality, alike = _best(quantized, contrasts)
    return Picks(
        tolerance=tolerance,
        quality=quality,
        size=_least(candidates, lambda row: row.checkpoint_bytes, contrasts),
        speed=_least(
            candidates, lambda row: None if (s := speed_of(row)) is None else -s, contrasts
        ),
        alike=alike,
    )


def tolerable(row: Row, tolerance: float | None, by_perplexity: bool = True) -> bool:
    """Whether a row is shown to have lost no more than a fraction of the unquantized quality."""
    if row.is_baseline or tolerance is None:
        return True
    if by_perplexity:
        return row.perplexity_ratio_high is not None and row.perplexity_ratio_high <= 1 + tolerance
    low, base = row.task_accuracy_delta_low, row.task_accuracy_baseline
    return low is not None and base is not None and low >= -tolerance * base


def _best(rows: list[Row], contrasts: Contrasts) -> tuple[Row | None, list[Row]]:
    """The smallest of those not told apart from the best, and the others of them."""
    known = [(quality, row) for row in rows if (quality := contrasts.quality(row)) is not None]
    if not known:
        return None, []
    _, least = min(known, key=lambda pair: pair[0])
    alike = [row for _, row in known if row is least or not contrasts.shown_worse(row, least)]
    best = _smallest(alike, contrasts)
    return best, [row for row in alike if row is not best]


def _least(
    rows: list[Row], cost: Callable[[Row], float | None], contrasts: Contrasts
) -> Row | None:
    """Of equal ones one that the best of them is not shown to be better than, then the smaller."""
    known = [(value, row) for row in rows if (value := cost(row)) is not None]
    if not known:
        return None
    least = min(value for value, _ in known)
    equal = [row for value, row in known if value == least]
    best = min(equal, key=lambda row: contrasts.quality(row) or float("inf"))
    return _smallest([row for row in equal if not contrasts.shown_worse(row, best)], contrasts)


def _smallest(rows: list[Row], contrasts: Contrasts) -> Row:
    return min(
        rows,
        key=lambda row: (
            row.checkpoint_bytes or float("inf"),
            contrasts.quality(row) or float("inf"),
        ),
    )
