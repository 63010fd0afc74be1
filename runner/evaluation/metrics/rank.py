"""Rank correlation, with its interval."""

import math
from collections.abc import Sequence

from runner.evaluation.metrics.statistics import Interval

_LEAST = 4
"""Pairs below which there is no interval."""
_NORMAL_975 = 1.959963984540054


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> Interval | None:
    """Spearman's correlation of two series with its 95% interval; ``None`` where it has none.

    The interval is that of Fisher's z with the variance (1 + r²/2) / (n - 3) of Bonett and Wright
    (Psychometrika 65, 2000). Pairs are the units: it speaks of other pairs like these. At a
    correlation of 1 or -1, where z is infinite, the width is that of the nearest one that n
    pairs can have.

    Args:
        one: A series.
        other: Another, as long; ties get their mean rank.
    """
    count = len(one)
    if count < _LEAST:
        return None
    r = _pearson(_ranks(one), _ranks(other))
    if r is None:
        return None
    # One exchange of neighbours away from the perfect order.
    most = 1 - 12 / (count * (count**2 - 1))
    inside = max(-most, min(most, r))
    half = _NORMAL_975 * math.sqrt((1 + inside**2 / 2) / (count - 3))
    low, high = (math.tanh(math.atanh(inside) + sign * half) for sign in (-1, 1))
    return Interval(r, min(r, low), max(r, high))


def _ranks(values: Sequence[float]) -> list[float]:
    """Places in ascending order, ties at their mean place."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + end - 1) / 2
        start = end
    return ranks


def _pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """``None`` where a series does not vary."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    products = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    square_x = sum((a - mean_x) ** 2 for a in x)
    square_y = sum((b - mean_y) ** 2 for b in y)
    if not square_x or not square_y:
        return None
    return max(-1.0, min(1.0, products / math.sqrt(square_x * square_y)))
