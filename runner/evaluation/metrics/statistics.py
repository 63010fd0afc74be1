"""Summaries of samples and intervals of paired differences. Uses numpy and scipy, not torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.evaluation.metrics.student import student_975

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass
class Summary:
    """Location and spread of repeated measurements, with the measurements."""

    mean: float
    sd: float
    p50: float
    p90: float
    p99: float
    samples: list[float]


@dataclass
class Interval:
    """An estimate with its 95% interval."""

    estimate: float
    low: float
    high: float


def summarise(samples: list[float]) -> Summary:
    """Mean, sample standard deviation (0 for a single sample) and percentiles."""
    import numpy as np

    values = np.asarray(samples, dtype=np.float64)
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Summary(float(values.mean()), sd, float(p50), float(p90), float(p99), list(samples))


def mean_interval(values: "NDArray[np.float64]") -> Interval:
    """Mean of independent values with Student's t interval at 95%.

    A single value has no interval (infinite).
    """
    import numpy as np

    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(student_975(count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def cluster_interval(
    sums: "NDArray[np.float64]",
    sizes: "NDArray[np.float64]",
    clusters: Sequence[int] | None = None,
) -> Interval:
    """Mean of all members of independent clusters with Student's t interval at 95%.

    With clusters of equal size this is ``mean_interval`` of their means; else the ratio
    estimator's first-order interval (Cochran, Sampling Techniques, 1977, section 6.4), with
    clusters as the primary units (the same, chapter 9A) and Student's t on one degree of
    freedom less than there are clusters.

    Args:
        sums: Sum of the members of each window (or of whatever else members come in).
        sizes: Number of the members of each.
        clusters: Which cluster each window belongs to; by default each is one of its own.
    """
    import numpy as np

    if clusters is not None:
        sums, sizes = totals(sums, clusters), totals(sizes, clusters)
    ratio = float(sums.sum() / sizes.sum())
    if len(sums) < 2:
        return Interval(ratio, -np.inf, np.inf)
    around = mean_interval((sums - ratio * sizes) * (len(sums) / sizes.sum()))
    half = (around.high - around.low) / 2
    return Interval(ratio, ratio - half, ratio + half)


def totals(values: "NDArray[np.float64]", clusters: Sequence[int]) -> "NDArray[np.float64]":
    """Sums over the members of each cluster, in the order of the clusters' numbers."""
    import numpy as np

    _, places = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(places, weights=values).astype(np.float64)


def intraclass_correlation(values: "NDArray[np.float64]", clusters: Sequence[int]) -> float | None:
    """How alike values of one cluster are: 1 if equal, 0 if no more than those of two clusters.

    The one-way analysis of variance for clusters of unequal size (Donner, International
    Statistical Review 54, 1986). It may come out below zero.

    Returns:
        ``None`` where it cannot be told: fewer than two clusters, none of two values, or values
        that do not vary.
    """
    import numpy as np

    counts = totals(np.ones(len(values)), clusters)
    between, within = len(counts) - 1, len(values) - len(counts)
    if between < 1 or within < 1:
        return None
    means = totals(values, clusters) / counts
    usual = (len(values) - float((counts**2).sum()) / len(values)) / between
    among = float((counts * (means - values.mean()) ** 2).sum()) / between
    inside = (float(((values - values.mean()) ** 2).sum()) - among * between) / within
    whole = among + (usual - 1) * inside
    return (among - inside) / whole if whole > 0 else None


def effective_number(clusters: Sequence[int], correlation: float | None) -> float | None:
    """Independent values that would tell as much as these do (Kish, Survey Sampling, 1965).

    The number over the design effect ``1 + (m - 1) * correlation``, where m is the mean size of
    a value's own cluster. A correlation below zero counts as none.

    Returns:
        ``None`` where a cluster has several values and their correlation is not known.
    """
    sizes = list(Counter(clusters).values())
    if max(sizes, default=1) == 1:
        return float(len(clusters))
    if correlation is None:
        return None
    mean_size = sum(size**2 for size in sizes) / len(clusters)
    return len(clusters) / (1 + (mean_size - 1) * max(0.0, correlation))
