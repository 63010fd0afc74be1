"""Quantiles of Student's t for any degrees of freedom: Welch's test has fractional ones."""

import math
from functools import lru_cache


@lru_cache(maxsize=4096)
def student_975(freedom: float) -> float:
    """Student's t at 97.5%: the half-width of a 95% interval in standard errors.

    Args:
        freedom: Degrees of freedom; below or at 0 nothing is known, and the width is infinite.
    """
    if freedom <= 0:
        return math.inf
    # What scipy.stats.t.ppf calls, without the half second that importing scipy.stats takes.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
