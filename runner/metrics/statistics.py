"""Summaries of samples and intervals of paired differences. Uses numpy and scipy, not torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


def mean_interval(clusters: "NDArray[np.float64]") -> Interval:
    """Mean of independent values with Student's t interval at 95%.

    For token losses the values are the means of whole windows: tokens of one window share
    their context and are not independent. A single value has no interval (infinite).
    """
    import numpy as np
    from scipy import stats

    count = len(clusters)
    mean = float(np.mean(clusters))
    if count < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.ppf(0.975, count - 1) * np.std(clusters, ddof=1) / np.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def cluster_interval(sums: "NDArray[np.float64]", sizes: "NDArray[np.float64]") -> Interval:
    """Mean of all members of independent clusters with Student's t interval at 95%.

    With clusters of equal size this is ``mean_interval`` of their means; else the ratio
    estimator's first-order interval (Cochran, Sampling Techniques, 1977, section 6.4).

    Args:
        sums: Sum of each cluster's members.
        sizes: Number of each cluster's members.
    """
    import numpy as np

    ratio = float(sums.sum() / sizes.sum())
    if len(sums) < 2:
        return Interval(ratio, -np.inf, np.inf)
    around = mean_interval((sums - ratio * sizes) * (len(sums) / sizes.sum()))
    half = (around.high - around.low) / 2
    return Interval(ratio, ratio - half, ratio + half)
