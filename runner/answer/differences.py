"""Which differences in quality between rows are shown, and which are noise or arithmetic.

Quality is perplexity where any row has it, else the share of right answers. Two rows are told
apart where the 95% interval of their difference, paired on the tokens or items that both read,
does not hold zero, and the difference is more than the type of the arithmetic makes by itself.
Rows whose records do not let them be paired are not told apart.
"""

from collections.abc import Sequence

from runner.answer.floor import ratio_within_floor
from runner.answer.rows import Row
from runner.quality.answered import accuracy_difference
from runner.quality.paired import log_ratio, why_not


class Differences:
    """Differences in quality among rows of one scope."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Decide by which quality these rows are judged."""
        self.by_perplexity = any(row.perplexity is not None for row in rows)

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

    def alike(self, row: Row, other: Row) -> bool:
        """Whether neither is shown to be the better one."""
        return not self.shown_worse(row, other) and not self.shown_worse(other, row)

    def _perplexity(self, row: Row, other: Row) -> bool:
        own, opposite = row.evaluated, other.evaluated
        if own is None or opposite is None or why_not(own, opposite) is not None:
            return False
        return log_ratio(own, opposite).low > 0 and not ratio_within_floor(row, other)


def _accuracy(row: Row, other: Row) -> bool:
    if row.answered is None or other.answered is None:
        return False
    found = accuracy_difference(row.answered, other.answered)
    return found is not None and found.shown and found.interval.estimate < 0
