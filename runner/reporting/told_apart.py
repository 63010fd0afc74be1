"""Which differences in quality between rows are shown, and which are noise or arithmetic.

There are three measures: perplexity (its logarithm), KL divergence from the unquantized model and
the share of right answers. Each is compared between any two rows on the same tokens or items, and
the intervals of all these differences hold together in 95% of measurements
(``runner.evaluation.metrics.simultaneous``): however many recipes are compared, one table in twenty
shows a difference by this measure that is none. Rows whose records do not let them be paired are
not told apart, nor are those that differ by no more than the type of the arithmetic does by
itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from runner.evaluation.metrics.simultaneous import clusters_needed
from runner.evaluation.metrics.statistics import Interval
from runner.reporting.families import Family, asked_alike, families, item_residuals, residuals
from runner.reporting.floor import (
    accuracy_within_floor,
    at_floor,
    kl_within_floor,
    ratio_within_floor,
)
from runner.reporting.quality.answered import Answered, accuracy_difference
from runner.reporting.quality.evaluated import Evaluated
from runner.reporting.quality.paired import (
    divergence_difference,
    log_ratio,
    same_reference,
    why_not,
)
from runner.reporting.rows import Row


@dataclass(frozen=True)
class Contrast:
    """One row's quality minus another's."""

    interval: Interval
    """Simultaneous, at 95%. Of perplexity it is that of ln(one's / other's), of KL divergence in
    nats, of accuracy a share."""
    shown: bool
    """Whether they are told apart."""
    clusters: int
    """Independent parts of the text, or items, that it comes from."""
    needed_clusters: int | None
    """In all, to tell them apart if the estimate is right, in four of five measurements; ``None``
    where they are, or no amount of text would do it."""
    unit: str
    """``windows``, ``documents`` or ``items``."""
    within_floor: bool = False
    """Whether arithmetic alone may be what differs."""


class Contrasts:
    """Differences in quality among rows of one scope."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Compare these rows; how many they are widens every interval."""
        self.rows = rows
        self.by_perplexity = any(row.perplexity is not None for row in rows)
        self._numbers: dict[Any, int] = {}
        self._number_of: dict[int, int] = {}
        self._found: dict[tuple[str, int, int], Contrast | None] = {}

    def quality(self, row: Row) -> float | None:
        """Of a row, less is better: the perplexity, or the share of wrong answers."""
        if self.by_perplexity:
            return row.perplexity
        return None if row.task_accuracy is None else 1 - row.task_accuracy

    def shown_worse(self, row: Row, other: Row) -> bool:
        """Whether ``row``'s quality is shown to be worse than ``other``'s.

        The first measure that tells them apart decides: perplexity, KL divergence, which varies
        less over the text, then right answers.
        """
        if row is other:
            return False
        for measure, sign in ((self.perplexity, 1), (self.divergence, 1), (self.accuracy, -1)):
            found = measure(row, other)
            if found is not None and found.shown:
                return sign * found.interval.estimate > 0
        return False

    def perplexity(self, row: Row, other: Row) -> Contrast | None:
        """Logarithm of ``row``'s perplexity over ``other``'s; ``None`` where they do not pair."""
        own, opposite = row.evaluated, other.evaluated
        if own is None or opposite is None:
            return None

        def found() -> Contrast | None:
            if why_not(own, opposite) is not None:
                return None
            return _of_text(
                log_ratio(own, opposite), self._perplexity_widening(own, opposite), own, own.losses
            )

        contrast = self._kept("perplexity", own, opposite, found)
        return _above(contrast, ratio_within_floor(row, other))

    def divergence(self, row: Row, other: Row) -> Contrast | None:
        """``row``'s KL divergence minus ``other``'s; ``None`` where they do not pair.

        The unquantized model's own is zero, and every recipe's above it.
        """
        own, opposite = row.evaluated, other.evaluated
        if row.is_baseline is not other.is_baseline:
            return _from_zero(other, -1) if row.is_baseline else _from_zero(row, 1)
        if own is None or opposite is None:
            return None

        def found() -> Contrast | None:
            if not same_reference(own, opposite):
                return None
            return _of_text(
                divergence_difference(own, opposite),
                self._divergence_widening(own, opposite),
                own,
                own.divergences,
            )

        contrast = self._kept("divergence", own, opposite, found)
        return _above(contrast, kl_within_floor(row, other))

    def accuracy(self, row: Row, other: Row) -> Contrast | None:
        """``row``'s mean share of right answers minus ``other``'s; ``None`` if not comparable.

        With one draw on each side, McNemar's exact test at the same level must agree.
        """
        own, opposite = row.answered, other.answered
        if own is None or opposite is None:
            return None
        difference = accuracy_difference(own, opposite)
        if difference is None:
            return None
        items = sum(len(task.outcomes[0]) for task in own.tasks.values() if task.outcomes)
        factor = self._accuracy_widening(own, opposite)
        interval = _widened(difference.interval, factor)
        shown = not interval.low <= 0 <= interval.high
        if difference.p_value is not None:
            shown = shown and difference.p_value < _level(factor, items)
        needed = None if shown else clusters_needed(interval, items)
        more = needed if needed is not None and needed > items else None
        contrast = Contrast(interval, shown, items, more, "items")
        return _above(contrast, accuracy_within_floor(row, other))

    def _perplexity_widening(self, own: Evaluated, opposite: Evaluated) -> float:
        return self._widening(self._perplexities, own, opposite)

    def _divergence_widening(self, own: Evaluated, opposite: Evaluated) -> float:
        return self._widening(self._divergences, own, opposite)

    def _widening(self, several: list[Family], *sides: Evaluated) -> float:
        numbers = {self._number(one) for one in sides}
        return max((one.widening for one in several if numbers & one.members), default=1.0)

    @cached_property
    def _evaluated(self) -> list[Evaluated]:
        """Those that say something else than one before."""
        every = {self._number(one): one for row in self.rows if (one := row.evaluated) is not None}
        return list(every.values())

    @cached_property
    def _perplexities(self) -> list[Family]:
        return families(
            self._evaluated,
            self._number,
            lambda one, other: why_not(one, other) is None,
            lambda one: residuals(one.loss_sums, one.sizes),
        )

    @cached_property
    def _divergences(self) -> list[Family]:
        return families(
            [one for one in self._evaluated if one.divergences],
            self._number,
            same_reference,
            lambda one: residuals(one.divergence_sums, one.divergence_sizes),
        )

    def _accuracy_widening(self, own: Answered, opposite: Answered) -> float:
        ids = {id(own), id(opposite)}
        return max((one.widening for one in self._accuracies if ids & one.members), default=1.0)

    @cached_property
    def _accuracies(self) -> list[Family]:
        every = [row.answered for row in self.rows if row.answered is not None]
        return families(every, id, asked_alike, item_residuals)

    def _kept(
        self, measure: str, one: Evaluated, other: Evaluated, make: Callable[[], Contrast | None]
    ) -> Contrast | None:
        # Runs of one checkpoint, or of one sweep made again, have the same losses.
        place = measure, self._number(one), self._number(other)
        if place not in self._found:
            self._found[place] = make()
        return self._found[place]

    def _number(self, own: Evaluated) -> int:
        """Of evaluations that say the same."""
        if id(own) not in self._number_of:
            where = own.circumstances
            identity = (
                own.metric,
                own.losses,
                own.divergences,
                own.draws,
                where.base,
                where.tokens,
                where.arithmetic,
            )
            more = (where.text[0], repr(where.text[1]), where.reference, where.window_tokens)
            number = self._numbers.setdefault((identity, more), len(self._numbers))
            self._number_of[id(own)] = number
        return self._number_of[id(own)]


def _of_text(
    pointwise: Interval, factor: float, own: Evaluated, windows: Sequence[Sequence[float]]
) -> Contrast:
    count = len(windows[0])
    clusters = len(set(own.clusters[:count]))
    interval = _widened(pointwise, factor)
    shown = not interval.low <= 0 <= interval.high
    needed = None if shown else clusters_needed(interval, clusters)
    return Contrast(
        interval, shown, clusters, needed, "windows" if clusters == count else "documents"
    )


def _from_zero(row: Row, sign: int) -> Contrast | None:
    """A recipe's own KL divergence, which cannot be below zero."""
    own = row.evaluated
    low, middle, high = row.kl_divergence_low, row.kl_divergence, row.kl_divergence_high
    if middle is None:
        return None
    ends = sorted((sign * (middle if low is None else low), sign * (high or middle)))
    count = len(own.divergences[0]) if own is not None and own.divergences else 0
    clusters = len(set(own.clusters[:count])) if own is not None else 0
    unit = "windows" if clusters == count else "documents"
    floor = at_floor(row)
    shown = middle > 0 and not floor
    return Contrast(Interval(sign * middle, *ends), shown, clusters, None, unit, floor)


def _above(contrast: Contrast | None, within_floor: bool) -> Contrast | None:
    """Nothing is shown that arithmetic may have made."""
    if contrast is None or not within_floor:
        return contrast
    return replace(contrast, shown=False, needed_clusters=None, within_floor=True)


def _widened(interval: Interval, factor: float) -> Interval:
    middle = interval.estimate
    return Interval(
        middle,
        middle - factor * (middle - interval.low),
        middle + factor * (interval.high - middle),
    )


def _level(factor: float, items: int) -> float:
    """Two-sided probability beyond the critical value of one of several differences."""
    from scipy.special import ndtr

    return 2 * float(ndtr(-1.959964 * factor))
