"""The largest concurrency at which a server keeps an objective: doubling, then bisection."""

import math
from collections.abc import Callable
from dataclasses import dataclass

_Z = 1.959963984540054
"""Of 95% of a normal distribution."""
_TOLERANCE = 0.1
"""Part of the answer within which a search stops."""


@dataclass
class Capacity:
    """How many users a server has kept the objective for."""

    concurrency: int | None
    """The most for whom it was met; ``None`` if it was not even for one."""
    breaks_at: int | None
    """The fewest for whom it was not; ``None`` if it was met up to the largest asked for."""
    sure: bool
    """Whether enough requests were sent: the 95% intervals of both attainments lie on their sides
    of the one that was asked for. Requests of one level are taken to be independent."""


def largest_concurrency(
    probe: Callable[[int], tuple[int, int]], most: int, min_attainment: float
) -> Capacity:
    """Search, taking it that more users make no request faster.

    Args:
        probe: Measures a concurrency: requests that met the objective, and all.
        most: Largest concurrency to try.
        min_attainment: Part of the requests that has to meet the objective.
    """
    met, missed, sure = 0, most + 1, {0: True, most + 1: True}
    while True:
        if missed > most:  # nothing is known to break yet
            if met == most:
                break
            middle = min(max(1, 2 * met), most)
        elif missed - met > max(1, int(_TOLERANCE * met)):
            middle = (met + missed) // 2
        else:
            break
        good, every = probe(middle)
        low, high = wilson_interval(good, every)
        kept = good >= min_attainment * every
        sure[middle] = low >= min_attainment if kept else high < min_attainment
        met, missed = (middle, missed) if kept else (met, middle)
    return Capacity(met or None, missed if missed <= most else None, sure[met] and sure[missed])


def wilson_interval(good: int, every: int) -> tuple[float, float]:
    """95% interval of a share (Wilson, JASA 22, 1927), which holds near 0 and 1 too."""
    if not every:
        return 0.0, 1.0
    share, square = good / every, _Z**2
    middle = (share + square / (2 * every)) / (1 + square / every)
    half = math.sqrt(share * (1 - share) / every + square / (4 * every**2))
    half *= _Z / (1 + square / every)
    return max(0.0, middle - half), min(1.0, middle + half)
