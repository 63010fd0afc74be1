"""Intervals that hold together: of many differences that were measured on the same text.

Of m intervals of 95% each, up to 5% m miss. Simultaneous ones are widened so that in 95% of
measurements *all* of them hold. Differences between recipes on the same clusters (documents, or
windows) share the text and each other's sides, so Bonferroni's or Holm's bound would widen more
than it takes; the critical value here is the 95% quantile of max |t| over all contrasts with the
correlation that their residuals have (single-step max-t: Hothorn, Bretz and Westfall, Biometrical
Journal 50, 2008; Westfall and Young, 1993).

The residuals e of a contrast over the clusters, scaled to length 1, give with normal multipliers g,
one for each cluster and shared by all contrasts (Chernozhukov, Chetverikov and Kato, Annals of
Statistics 41, 2013), the cosine u = e·g / |g|; and u √(C-1) / √(1-u²) has for one contrast exactly
Student's t with C - 1 degrees of freedom. So of one contrast the interval stays what it was, of
perfectly correlated ones too, and of unrelated ones it is Bonferroni's. The quantile is of fixed
random numbers: the same data give the same interval on every machine.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.evaluation.metrics.statistics import Interval
from runner.evaluation.metrics.student import student_975

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DRAWS = 8192
"""Of multipliers: the quantile's own error is below 1% of it."""
_AT_ONCE = 1 << 24
"""Numbers held in memory meanwhile."""
_MOST = 10**9
"""Clusters beyond which nothing will tell: more text than there is."""


def simultaneous(
    estimates: Sequence[Interval], means: "NDArray[np.float64]", level: float = 0.95
) -> list[Interval]:
    """Widen 95% intervals of contrasts until all of them hold together in ``level`` of cases.

    Args:
        estimates: Each contrast's own interval; one that is infinite stays so.
        means: Shape (contrasts, clusters): what each contrast is in each independent cluster.
        level: Probability that all intervals hold.
    """
    factor = widening(means, level)
    return [
        Interval(
            one.estimate,
            one.estimate - factor * (one.estimate - one.low),
            one.estimate + factor * (one.high - one.estimate),
        )
        for one in estimates
    ]


def widening(means: "NDArray[np.float64]", level: float = 0.95) -> float:
    """Critical value of max |t| over Student's at 95%: what intervals are to be multiplied by.

    Contrasts that do not vary, such as of one checkpoint with itself, do not count.

    Args:
        means: As of ``simultaneous``.
        level: As of ``simultaneous``.
    """
    import numpy as np

    contrasts, clusters = means.shape
    if clusters < 2 or not contrasts:
        return 1.0
    residuals = means - means.mean(axis=1, keepdims=True)
    lengths = np.sqrt((residuals**2).sum(axis=1))
    moving = lengths > 1e-12 * np.abs(means).max(initial=1e-300)
    count = int(moving.sum())
    if not count or (count == 1 and level == 0.95):
        return 1.0
    units = (residuals[moving] / lengths[moving, None]).astype(np.float32)
    multipliers = np.random.default_rng(0).standard_normal((clusters, _DRAWS), np.float32)
    multipliers /= np.sqrt((multipliers**2).sum(axis=0))
    largest = np.zeros(_DRAWS, np.float32)
    step = max(1, _AT_ONCE // _DRAWS)
    for start in range(0, count, step):
        cosines = np.abs(units[start : start + step] @ multipliers)
        np.maximum(largest, cosines.max(axis=0), out=largest)
    cosine = min(1.0, float(np.quantile(largest, level)))
    freedom = clusters - 1
    critical = cosine * math.sqrt(freedom / max(1e-12, 1 - cosine**2))
    factor = critical / student_975(freedom)
    return max(1.0, factor) if level >= 0.95 else factor


def clusters_needed(
    interval: Interval, clusters: int, boundary: float = 0.0, power: float = 0.8
) -> int | None:
    """How many clusters would set a difference apart from a boundary, were it the estimate.

    The half-width shrinks with the root of their number and with Student's t. That many show the
    difference in ``power`` of measurements; where just the interval's end comes to lie on the
    boundary, it is one in two.

    Args:
        interval: Of the difference.
        clusters: How many it comes from.
        boundary: What it must not hold.
        power: Probability of success that is aimed for.

    Returns:
        In all, those of the interval included; more than them where it holds the boundary.
        ``None`` where no number would do or nothing is known of the spread.
    """
    half, distance = interval.high - interval.estimate, abs(interval.estimate - boundary)
    if clusters < 2 or not math.isfinite(half) or not distance > 0:
        return None
    from scipy.special import ndtri

    spread = half * math.sqrt(clusters) / student_975(clusters - 1)
    beyond = max(0.0, float(ndtri(power)))

    def is_enough(number: int) -> bool:
        return spread * (student_975(number - 1) + beyond) <= distance * math.sqrt(number)

    most = 2
    while not is_enough(most):
        most *= 2
        if most > _MOST:
            return None
    least = max(1, most // 2)
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if is_enough(middle) else (middle, most)
    return most
