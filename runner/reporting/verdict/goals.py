"""Which of the rows that meet the limits is best by the goal, and what it was chosen from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.config.schema.decide import Goal
from runner.reporting.rows import Row
from runner.reporting.speed import shown_slower, shown_speed
from runner.reporting.told_apart import Contrasts
from runner.reporting.verdict.quality import MEASURES, Step, left_by, steps

EQUAL = 0.05
"""Sizes and costs that differ by no more than this count as equal: quality decides then."""


@dataclass(frozen=True)
class Choice:
    """The best row by a goal."""

    row: Row
    pool: list[Row]
    """What counted as equally good by the goal: it and those that quality was asked about."""
    steps: list[Step]
    """What quality said of the pool."""
    equal: list[Row] = field(default_factory=list)
    """What quality did not tell from it either."""


class Ranking:
    """Orders rows of one scope by a goal."""

    def __init__(
        self, rows: list[Row], goal: Goal, contrasts: Contrasts, dollars: Mapping[int, float]
    ) -> None:
        """Look at all rows of a scope, whether they meet the limits or not.

        Args:
            rows: Those.
            goal: What is best.
            contrasts: Their differences in quality.
            dollars: What a million generated tokens costs, by a row's ``id``.
        """
        self.goal, self.contrasts = goal, contrasts
        self._speed = shown_speed(rows)
        self._first = next((m for m in MEASURES if any(m.value(r) is not None for r in rows)), None)
        self._dollars = dollars

    def cost(self, row: Row) -> float | None:
        """What the goal makes least of; ``None`` where it was not measured."""
        if self.goal is Goal.size:
            return row.checkpoint_bytes
        if self.goal is Goal.speed:
            speed = self._speed(row)
            return 1 / speed if speed else None
        if self.goal is Goal.cost:
            return self._dollars.get(id(row))
        known = self._first is not None and self._first.value(row) is not None
        return self._first.cost(row) if known and self._first else None

    def best(self, rows: Sequence[Row]) -> Choice | None:
        """The best of rows; ``None`` where the goal's figure is known of none."""
        known = [row for row in rows if self.cost(row) is not None]
        if not known:
            return None
        pool = known if self.goal is Goal.quality else self._equal(known)
        said = steps(pool, self.contrasts)
        left = left_by(pool, said)
        chosen = min(self._last(left), key=self._estimate)
        return Choice(chosen, pool, said, [row for row in left if row is not chosen])

    def _equal(self, rows: list[Row]) -> list[Row]:
        """Those that are not shown to be behind the best by the goal's figure."""
        best = min(rows, key=lambda row: self.cost(row) or 0.0)
        least = self.cost(best) or 0.0
        if self.goal is Goal.speed:
            return [row for row in rows if self._as_fast(row, best)]
        return [row for row in rows if (self.cost(row) or 0.0) <= least * (1 + EQUAL)]

    def _as_fast(self, row: Row, best: Row) -> bool:
        if row is best or self.cost(row) == self.cost(best):
            return True
        # What has no interval, or runs on another engine, is what it is.
        return shown_slower(row, best) is False

    def _last(self, rows: list[Row]) -> list[Row]:
        """Of those that nothing in quality tells apart, what is best by size and then by speed."""
        if len(rows) > 1 and self.goal is not Goal.size and _all(rows, "checkpoint_bytes"):
            least = min(row.checkpoint_bytes or 0 for row in rows)
            rows = [row for row in rows if (row.checkpoint_bytes or 0) <= least * (1 + EQUAL)]
        if len(rows) > 1 and self.goal is not Goal.speed and _all(rows, "decode_tokens_per_second"):
            fastest = max(rows, key=lambda row: self._speed(row) or 0.0)
            rows = [row for row in rows if row is fastest or shown_slower(row, fastest) is not True]
        return rows

    def _estimate(self, row: Row) -> tuple[float, ...]:
        """Estimates, where nothing else is left to go by: the steadier measure first."""
        perplexity, divergence, accuracy = (measure.cost(row) for measure in MEASURES)
        return divergence, perplexity, accuracy, float(row.checkpoint_bytes or 0)


def dollars_per_million_tokens(tokens_per_second: float, dollars_per_hour: float) -> float:
    """What a million generated tokens costs on one device."""
    return dollars_per_hour / 3600 / tokens_per_second * 1e6


def _all(rows: Sequence[Row], name: str) -> bool:
    return all(getattr(row, name) is not None for row in rows)
