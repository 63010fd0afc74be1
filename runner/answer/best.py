"""The recipes to take: best for quality, for size and for speed within a tolerated loss."""

from collections.abc import Callable
from dataclasses import dataclass

from runner.answer.rows import Row
from runner.answer.speed import shown_speed
from runner.store.records import Status

TOLERANCES: tuple[float | None, ...] = (0.01, 0.05, 0.10, 0.25, None)
"""Tolerated increases of perplexity, as fractions of the unquantized model's; ``None`` is any."""
USUAL_TOLERANCE = 0.10


@dataclass(frozen=True)
class Picks:
    """The rows to take; ``None`` where no row has the figure."""

    tolerance: float | None
    quality: Row | None
    """Least perplexity among the quantized ones."""
    size: Row | None
    speed: Row | None
    """Most decode tokens/s; the unquantized model where nothing was shown to be faster."""


def picks(rows: list[Row], tolerance: float | None) -> Picks:
    """Choose among the rows of a scope those whose perplexity grew by no more than ``tolerance``.

    A row without a comparison with the unquantized model counts only where any loss is tolerated.
    """
    candidates = [
        row for row in rows if row.status == Status.ok.value and _tolerable(row, tolerance)
    ]
    quantized = [row for row in candidates if not row.is_baseline]
    speed_of = shown_speed(rows)
    return Picks(
        tolerance=tolerance,
        quality=_least(quantized, lambda row: row.perplexity_ratio or row.perplexity),
        size=_least(candidates, lambda row: row.checkpoint_bytes),
        speed=_least(candidates, lambda row: None if (s := speed_of(row)) is None else -s),
    )


def _tolerable(row: Row, tolerance: float | None) -> bool:
    if row.is_baseline or tolerance is None:
        return True
    return row.perplexity_ratio is not None and row.perplexity_ratio <= 1 + tolerance


def _least(rows: list[Row], cost: Callable[[Row], float | None]) -> Row | None:
    known = [(value, row) for row in rows if (value := cost(row)) is not None]
    # Of equal ones the better, then the smaller.
    return min(
        known,
        key=lambda pair: (
            pair[0],
            pair[1].perplexity_ratio or 1.0,
            pair[1].checkpoint_bytes or float("inf"),
        ),
        default=(0, None),
    )[1]
