"""Whether two measurements differ by more than their repetitions do.

Repetitions of one process share its memory layout and the machine's mood of that minute, so
intervals of two separate measurements are too narrow; interleaved ones (A B A B) are paired,
which takes out what both share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.evaluation.metrics.statistics import Interval
from runner.evaluation.metrics.student import student_975


@dataclass
class Comparison:
    """One measurement against another, both positive, repetition by repetition."""

    ratio: Interval
    """First over second, with its 95% interval; infinite when nothing was repeated."""
    within_noise: bool
    """The interval holds 1: the repetitions do not tell them apart."""
    paired: bool


def relative_noise(samples: Sequence[float]) -> float | None:
    """Half of the 95% interval of the mean, relative to the mean; ``None`` for one sample.

    The repeat spread: 0.03 says that the mean is known within 3%.
    """
    count = len(samples)
    if count < 2:
        return None
    mean, variance = _moments(samples)
    return student_975(count - 1) * math.sqrt(variance / count) / abs(mean)


def compare(first: Sequence[float], second: Sequence[float], paired: bool = False) -> Comparison:
    """Ratio of two series of positive measurements.

    Works on logarithms: paired repetitions by Student's t on their differences, others by
    Welch's test with the degrees of freedom of Welch and Satterthwaite.

    Args:
        first: Samples of the one.
        second: Samples of the other; as many when paired.
        paired: Whether the samples were taken in turns.

    Raises:
        ValueError: A series is empty or not positive, or paired ones differ in length.
    """
    if not first or not second or min(*first, *second) <= 0:
        raise ValueError("measurements to compare must be positive and not empty")
    one, other = [math.log(x) for x in first], [math.log(x) for x in second]
    if paired:
        if len(one) != len(other):
            raise ValueError(f"{len(one)} samples cannot be paired with {len(other)}")
        mean, variance = _moments([a - b for a, b in zip(one, other, strict=True)])
        error, freedom = variance / len(one), len(one) - 1.0
    else:
        (mean_one, var_one), (mean_other, var_other) = _moments(one), _moments(other)
        mean = mean_one - mean_other
        shares = (var_one / len(one), var_other / len(other))
        error = sum(shares)
        spread = sum(
            share**2 / (len(values) - 1)
            for share, values in zip(shares, (one, other), strict=True)
            if len(values) > 1
        )
        freedom = min(len(one), len(other)) - 1.0
        if freedom and spread:
            freedom = error**2 / spread
    repeated = min(len(one), len(other)) > 1
    half = student_975(freedom) * math.sqrt(error) if repeated else math.inf
    ratio = Interval(math.exp(mean), math.exp(mean - half), _exp(mean + half))
    return Comparison(ratio, ratio.low <= 1.0 <= ratio.high, paired)


def compare_between(
    own: Sequence[float], before: Sequence[float], after: Sequence[float]
) -> Comparison:
    """A measurement against another that was made twice, before it and after.

    The three are single draws of what the machine does to a process, so the spread is that of the
    two which should be equal: s = abs(ln(after / before)) / sqrt(2), with one degree of freedom.
    The ratio to both has the half-width t x s x sqrt(1 + 1/2), or Welch's of all repetitions if
    that is larger.

    Args:
        own: Samples of the one, positive.
        before: Samples of the other, taken first.
        after: Samples of the other, taken last.

    Raises:
        ValueError: A series is empty or not positive.
    """
    repeated = compare(own, [*before, *after])
    moved = math.log(compare(after, before).ratio.estimate)
    one, other = (_moments([math.log(x) for x in series])[0] for series in (before, after))
    mean = _moments([math.log(x) for x in own])[0] - (one + other) / 2
    half = student_975(1) * abs(moved) / math.sqrt(2) * math.sqrt(1.5)
    half = max(half, math.log(repeated.ratio.high / repeated.ratio.estimate))
    ratio = Interval(math.exp(mean), math.exp(mean - half), _exp(mean + half))
    return Comparison(ratio, ratio.low <= 1.0 <= ratio.high, paired=False)


def widened(found: Comparison, drift: float) -> Comparison:
    """The comparison where something else changed by ``drift`` that may be in either measurement.

    Nobody knows how much of it is in the ratio, nor which way, so the interval grows on both sides:
    [low, high] becomes [low / d, high x d] with d = exp(abs(ln(drift))).

    Args:
        found: What the repetitions alone say.
        drift: A ratio that would be 1 had nothing changed; positive.
    """
    factor = math.exp(abs(math.log(drift)))
    ratio = Interval(found.ratio.estimate, found.ratio.low / factor, found.ratio.high * factor)
    return Comparison(ratio, ratio.low <= 1.0 <= ratio.high, found.paired)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
