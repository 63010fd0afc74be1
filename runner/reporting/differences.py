"""Which differences in quality between rows are shown, and which are noise or arithmetic.

Quality is perplexity where any row has it, else the share of right answers. Two rows are told
apart where the 95% interval of their difference, paired on the tokens or items that both read,
does not hold zero, and the difference is more than the type of the arithmetic makes by itself.
Rows whose records do not let them be paired are not told apart.
"""

from collections.abc import Sequence
from typing import Any

from runner.reporting.floor import ratio_within_floor
from runner.reporting.quality.answered import accuracy_difference
from runner.reporting.quality.evaluated import Evaluated
from runner.reporting.quality.paired import log_ratio, why_not
from runner.reporting.rows import Row


class Differences:
    """Differences in quality among rows of one scope."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Decide by which quality these rows are judged."""
        self.by_perplexity = any(row.perplexity is not None for row in rows)
        self._numbers: dict[Any, int] = {}
        self._number_of: dict[int, int] = {}
        self._ratio_is_above: dict[tuple[int, int], bool] = {}

    def quality(self, row: Row) -> float | None:
        """Of a row, less is better: the perplexity, or the share of wrong answers."""
        if self.by_perplexity:
            return row.perplexity
        return None if row.task_accuracy is None else 1 - row.task_accuracy

    def shown_worse(self, row: Row, other: Row) -> bool:
        """Whether ``row``'s quality is shown to be worse than ``other``'s."""
        if row is other:
            return False
        return self._perplexity(row, other) if self.by_perplexity else _accuracy(row, other)

    def _perplexity(self, row: Row, other: Row) -> bool:
        own, opposite = row.evaluated, other.evaluated
        if own is None or opposite is None:
            return False
        # Runs of one checkpoint, or of one sweep made again, have the same losses.
        pair = self._number(own), self._number(opposite)
        if pair not in self._ratio_is_above:
            paired = why_not(own, opposite) is None
            self._ratio_is_above[pair] = paired and log_ratio(own, opposite).low > 0
        return self._ratio_is_above[pair] and not ratio_within_floor(row, other)

    def _number(self, own: Evaluated) -> int:
        """Of evaluations that say the same."""
        if id(own) not in self._number_of:
            where = own.circumstances
            identity = (
                own.metric,
                own.losses,
                own.draws,
                where.base,
                where.tokens,
                where.arithmetic,
            )
            more = (where.text[0], repr(where.text[1]), where.reference, where.window_tokens)
            number = self._numbers.setdefault((identity, more), len(self._numbers))
            self._number_of[id(own)] = number
        return self._number_of[id(own)]


def _accuracy(row: Row, other: Row) -> bool:
    if row.answered is None or other.answered is None:
        return False
    difference = accuracy_difference(row.answered, other.answered)
    return difference is not None and difference.shown and difference.interval.estimate < 0
