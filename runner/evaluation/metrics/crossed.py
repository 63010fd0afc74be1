"""Intervals over windows and over a recipe's seeds together: crossed random effects.

A recipe that draws its calibration text is made several times, from several seeds, and each
checkpoint is evaluated on the same clusters of tokens (documents, or windows). The loss of draw s
on cluster c is taken as

    y[s, c] = mean + draw[s] + cluster[c] + rest[s, c],

a two-way layout without replication in which draws and clusters are random. Its mean squares of
draws A, of clusters B and of the rest E have the expectations of Cornfield and Tukey (1956), so

    variance of the mean = B / (S C) + (A - E) / (S C).

The first term is what the text alone makes uncertain, with C - 1 degrees of freedom; the second is
the draws', with S - 1. The half-width is the root of the sum of both terms' squared half-widths,
each by its own Student's t (Howe 1974, JASA 69:789). One t with Satterthwaite's degrees of freedom
covers as little as 89% with two draws and 93% with three; this one 96 to 99% with two, and 95 to
97% with more (simulated in ``tests/unit/test_crossed.py``). With two draws E is not taken off:
their difference is a single number that may be small by chance.

With one draw it is the interval over clusters alone: it speaks of the text, not of the recipe.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.evaluation.metrics.statistics import Interval
from runner.evaluation.metrics.student import student_975

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class _Spread:
    """What one set of draws is around its mean."""

    means: "NDArray[np.float64]"
    """Of each cluster, over the draws."""
    half_squared: float
    """Squared half-width of the 95% interval that the draws alone make; 0 for one draw."""


def crossed_interval(
    sums: "NDArray[np.float64]",
    sizes: "NDArray[np.float64]",
    other: "NDArray[np.float64] | None" = None,
) -> Interval:
    """Mean of all members of the clusters over the draws, with its 95% interval.

    Clusters of unequal size enter through the ratio estimator's residuals (Cochran, Sampling
    Techniques, 1977, section 6.4), as in ``cluster_interval``.

    Args:
        sums: Shape (draws, clusters): the sum of each cluster's members in each draw.
        sizes: Members of each cluster.
        other: The same of another recipe on the same clusters whose draws are independent of
            these, to be subtracted. Draws that belong together (of one seed) are subtracted
            before, draw by draw.
    """
    import numpy as np

    sides = [sums] if other is None else [sums, other]
    total = float(sizes.sum())
    estimates = [float(side.sum()) / (len(side) * total) for side in sides]
    estimate = estimates[0] - sum(estimates[1:])
    count = len(sizes)
    if count < 2:
        return Interval(estimate, -math.inf, math.inf)
    spreads = [
        _spread((side - mean * sizes) * (count / total))
        for side, mean in zip(sides, estimates, strict=True)
    ]
    means = spreads[0].means - sum(spread.means for spread in spreads[1:])
    text = student_975(count - 1) ** 2 * float(np.var(means, ddof=1)) / count
    half = math.sqrt(text + sum(spread.half_squared for spread in spreads))
    return Interval(estimate, estimate - half, estimate + half)


def _spread(residuals: "NDArray[np.float64]") -> _Spread:
    """Of residuals of shape (draws, clusters), whose mean over everything is 0."""
    draws, clusters = residuals.shape
    means = residuals.mean(axis=0)
    if draws < 2:
        return _Spread(means, 0.0)
    own = residuals.mean(axis=1)
    of_draws = clusters * float((own**2).sum()) / (draws - 1)
    rest = residuals - means - own[:, None]
    of_rest = float((rest**2).sum()) / ((draws - 1) * (clusters - 1)) if draws > 2 else 0.0
    variance = max(0.0, of_draws - of_rest) / (draws * clusters)
    return _Spread(means, student_975(draws - 1) ** 2 * variance)
