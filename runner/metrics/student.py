"""Quantiles of Student's t for any degrees of freedom, fractional ones too. Needs no library.

Engines' environments need not have scipy, and Welch's test has fractional degrees of freedom.
Equal to ``scipy.stats.t.ppf`` within 1e-11 of the quantile.
"""

import math
from functools import lru_cache
from statistics import NormalDist

_LARGE = 2000.0
"""Degrees of freedom from where the expansion's next term is below 1e-16."""
_SMALLEST = 1e-300


@lru_cache(maxsize=4096)
def student_975(freedom: float) -> float:
    """Student's t at 97.5%: the half-width of a 95% interval in standard errors.

    Args:
        freedom: Degrees of freedom; below or at 0 nothing is known, and the width is infinite.
    """
    return student_quantile(0.975, freedom) if freedom > 0 else math.inf


def student_quantile(probability: float, freedom: float) -> float:
    """What a variable with Student's t distribution is below with this probability.

    Args:
        probability: Above a half and below 1.
        freedom: Degrees of freedom, positive; infinite for the normal distribution.

    Raises:
        ValueError: An argument is outside its range.
    """
    if not 0.5 < probability < 1 or freedom <= 0:
        raise ValueError(f"no quantile at {probability} for {freedom} degrees of freedom")
    z = NormalDist().inv_cdf(probability)
    if freedom > _LARGE:
        return _expanded(z, freedom)
    beyond = 2 * (1 - probability)
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    # Both tails' probability falls and is convex, so from below Newton's steps never overshoot.
    found = min(z, 1.0)
    for _ in range(200):
        log_density = scale - math.log(freedom * math.pi) / 2
        log_density -= (freedom + 1) / 2 * math.log1p(found * found / freedom)
        step = (_both_tails(found, freedom) - beyond) / (2 * math.exp(log_density))
        found += step
        if abs(step) < 1e-15 * found:
            break
    return found


def _both_tails(t: float, freedom: float) -> float:
    """Probability that abs(T) exceeds ``t``: a regularized incomplete beta function.

    DLMF 8.17.22, its continued fraction by Lentz's method, on the side where it converges fast.
    """
    a, b, x = freedom / 2, 0.5, freedom / (freedom + t * t)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += -a * math.log1p(t * t / freedom) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(front) * _fraction(a, b, x) / a
    return 1 - math.exp(front) * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + term * d)
            c = _away(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return value


def _away(value: float) -> float:
    """From zero, by which it is divided."""
    return value if abs(value) > _SMALLEST else _SMALLEST


def _expanded(z: float, freedom: float) -> float:
    """Around the normal quantile: Abramowitz and Stegun 26.7.5."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
