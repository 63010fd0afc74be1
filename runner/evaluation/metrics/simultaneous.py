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
Student's t with C - 1 degrees of freedom. So of one contrast the interval stays what it was, and
of unrelated ones it is Bonferroni's.

That knows correlations, not skewness, and KL divergences are skewed: of ten differences on 16
articles all would hold in 92%. So the critical value is that of the studentized bootstrap of max
|t| over clusters where it is larger, by a tenth at most, since of few clusters some resamples hold
next to none (simulated: ``python -m benchmarks.error_rates``). Quantiles are of fixed random
numbers: the same data give the same interval on every machine.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from runner.evaluation.metrics.statistics import Interval
from runner.evaluation.metrics.student import student_975, student_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DRAWS = 8192
"""Of multipliers: the quantile's own error is below 1% of it."""
_SKEWED = 1.1
"""Most that skewness adds."""
_RESAMPLES, _LEAST_RESAMPLES = 1024, 256
_BIG = 10**8
"""Products that a bootstrap may take: a tenth of a second."""
_FEW = 100
"""Sides up to which that many draws cost next to nothing; for more there are an eighth of them."""
_NORMAL = 200
"""Clusters beyond which means are taken as normal."""
_MANY = 300
"""Sides beyond which Bonferroni's bound, by then 5% wider, does."""
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
    return _critical(means, level, lambda rows: iter([rows]))


def pairwise_widening(means: "NDArray[np.float64]", level: float = 0.95) -> float:
    """The same of all differences between any two of these, of shape (sides, clusters)."""
    sides, clusters = means.shape
    if sides > _MANY and clusters > 1:
        from scipy.special import stdtrit

        tail = (1 - level) / (sides * (sides - 1))
        return float(stdtrit(clusters - 1, 1 - tail)) / student_975(clusters - 1)

    def differences(rows: "NDArray[np.float64]") -> "Iterator[NDArray[np.float64]]":
        return (rows[:number] - rows[number] for number in range(1, len(rows)))

    return _critical(means, level, differences)


def _critical(
    means: "NDArray[np.float64]",
    level: float,
    contrasts: "Callable[[NDArray[np.float64]], Iterator[NDArray[np.float64]]]",
) -> float:
    """The same of linear combinations of rows, which ``contrasts`` makes a few at a time."""
    import numpy as np

    rows, clusters = means.shape
    if clusters < 2 or not rows:
        return 1.0
    residuals = means - means.mean(axis=1, keepdims=True)
    still, as_they_are = 1e-12 * float(np.abs(means).max()), residuals
    draws = _DRAWS if rows <= _FEW else _DRAWS // 8
    generator = np.random.default_rng(0)
    rest = np.zeros(draws)
    if rows < clusters:
        # Only what the residuals span counts: the same in fewer coordinates.
        residuals = np.asarray(np.linalg.qr(residuals.T, mode="r")).T
        rest = generator.chisquare(clusters - rows, draws)
    multipliers = generator.standard_normal((residuals.shape[1], draws))
    multipliers /= np.sqrt((multipliers**2).sum(axis=0) + rest)
    # Not by matrix multiplication, whose threads cost more than so few numbers do.
    projected = np.einsum("rc,cd->rd", residuals, multipliers)
    largest, count = np.zeros(draws), 0
    for some, cosines in zip(contrasts(residuals), contrasts(projected), strict=True):
        lengths = np.sqrt((some**2).sum(axis=1))
        moving = lengths > still
        if moving.any():
            count += int(moving.sum())
            scaled = np.abs(cosines[moving]) / lengths[moving, None]
            np.maximum(largest, scaled.max(axis=0), out=largest)
    if not count or (count == 1 and level == 0.95):
        return 1.0
    cosine = min(1.0, float(np.quantile(largest, level)))
    freedom = clusters - 1
    critical = cosine * math.sqrt(freedom / max(1e-12, 1 - cosine**2))
    bootstrapped = _bootstrapped(as_they_are, level, contrasts, count, still)
    critical = max(critical, min(bootstrapped, _SKEWED * critical))
    factor = critical / student_975(freedom)
    return max(1.0, factor) if level >= 0.95 else factor


def _bootstrapped(
    residuals: "NDArray[np.float64]",
    level: float,
    contrasts: "Callable[[NDArray[np.float64]], Iterator[NDArray[np.float64]]]",
    count: int,
    still: float,
) -> float:
    """Quantile of the largest |t| over contrasts of clusters drawn with replacement.

    Infinite where they are too many to be drawn from; 0 where they are so many clusters that
    skewness does not matter.
    """
    import numpy as np

    clusters = residuals.shape[1]
    if clusters > _NORMAL:
        return 0.0
    resamples = min(_RESAMPLES, _BIG // (2 * count * clusters))
    if resamples < _LEAST_RESAMPLES:
        return math.inf
    shares = _shares(clusters, resamples)
    largest = np.zeros(resamples)
    for some in contrasts(residuals):
        moving = some[np.abs(some).max(axis=1) > still]
        if len(moving):
            # Not by matrix multiplication: see above.
            mean = np.einsum("rc,cd->rd", moving, shares)
            spread = np.einsum("rc,cd->rd", moving**2, shares) - mean**2
            least = 1e-9 * (moving**2).mean(axis=1, keepdims=True)
            found = np.abs(mean) / np.sqrt(np.maximum(spread, least) / (clusters - 1))
            np.maximum(largest, found.max(axis=0), out=largest)
    return float(np.quantile(largest, level))


@lru_cache(maxsize=4)
def _shares(clusters: int, resamples: int) -> "NDArray[np.float64]":
    """Of each cluster in each resample."""
    import numpy as np

    counts = np.random.default_rng(1).multinomial(clusters, [1 / clusters] * clusters, resamples)
    return np.ascontiguousarray(counts.T / clusters)


def clusters_needed(
    interval: Interval,
    clusters: int,
    boundary: float = 0.0,
    power: float = 0.8,
    tail: float = 0.025,
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
        tail: Probability beyond the boundary's side of the interval that is to exclude it.

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
        reach = student_quantile(number - 1, 1 - tail) + beyond
        return spread * reach <= distance * math.sqrt(number)

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
