"""Student's t for any degrees of freedom: Welch's test has fractional ones."""

import math
from functools import lru_cache


def student_975(freedom: float) -> float:
    """Student's t at 97.5%: the half-width of a 95% interval in standard errors.

    Args:
        freedom: Degrees of freedom; below or at 0 nothing is known, and the width is infinite.
    """
    return student_quantile(freedom, 0.975)


@lru_cache(maxsize=4096)
def student_quantile(freedom: float, probability: float) -> float:
    """Student's t at a probability; infinite where there are no degrees of freedom."""
    if freedom <= 0:
        return math.inf
    # What scipy.stats.t.ppf calls, without the half second that importing scipy.stats takes.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def student_below(freedom: float, value: float) -> float:
    """Probability that Student's t is below a value; 1/2 where there are no degrees of freedom."""
    if freedom <= 0:
        return 0.5
    from scipy.special import stdtr

    return float(stdtr(freedom, value))
