"""Two models' scores on the same items: McNemar's exact test and its counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.evaluation.metrics.statistics import Interval, mean_interval


@dataclass
class McNemar:
    """Exact test of McNemar (1947) on items that one model gets right and the other does not."""

    lost: int
    """Right before, wrong now."""
    gained: int
    """Wrong before, right now."""
    p_value: float
    """Two-sided probability of a split at least as uneven if losses and gains were equally
    likely; 1 when nothing changed."""


@dataclass
class Change:
    """A metric against the unquantized model's on the same items."""

    baseline: float
    delta: float
    delta_interval: Interval | None
    """95% interval of the mean paired difference; ``None`` for a metric that is no mean."""
    recovery_percent: float | None
    """Of the baseline's value; the ratio is turned round where less is better."""
    mcnemar: McNemar | None
    """``None`` where items are not simply right or wrong."""
    answers_changed: int | None
    """Items that got another answer, right or not; ``None`` where there is none to compare."""


def mcnemar(before: Sequence[float], after: Sequence[float]) -> McNemar:
    """Compare two sequences of 0 and 1 on the same items.

    The exact binomial test: with b losses and c gains, both equally likely, the p-value is
    twice the probability of at most min(b, c) successes in b + c throws of a fair coin.
    """
    pairs = list(zip(before, after, strict=True))
    lost = sum(1 for old, new in pairs if old > new)
    gained = sum(1 for old, new in pairs if new > old)
    changed = lost + gained
    tail = sum(math.comb(changed, k) for k in range(min(lost, gained) + 1))
    # Whole numbers up to here: their quotient is exact to the last bit.
    return McNemar(lost, gained, min(1.0, 2 * tail / 2**changed))


def recovery_percent(value: float, baseline: float, higher_is_better: bool) -> float | None:
    """How much of the baseline's value is left, in percent; ``None`` when that is zero."""
    above, below = (value, baseline) if higher_is_better else (baseline, value)
    return 100.0 * above / below if below else None


def paired_difference(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Mean of ``after - before`` over the items with Student's t interval at 95%."""
    import numpy as np

    return mean_interval(np.asarray(after, np.float64) - np.asarray(before, np.float64))


def is_right_or_wrong(values: Sequence[object]) -> bool:
    """Whether all values are 0 or 1."""
    return all(isinstance(value, int | float) and value in (0, 1) for value in values)
