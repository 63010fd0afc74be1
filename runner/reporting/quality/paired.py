"""Differences in quality between recipes on the same tokens, with 95% intervals.

Both share the text's luck, which cancels: the interval of the difference is not put together from
two intervals against the unquantized model.
"""

from typing import TYPE_CHECKING

from runner.evaluation.metrics.crossed import crossed_interval
from runner.evaluation.metrics.statistics import Interval
from runner.reporting.quality.evaluated import Circumstances, Evaluated, exponential

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SAME_LOSSES = 1e-4
"""Nats. The same model in the same arithmetic comes closer on other machines; in another type or
on other tokens it does not."""


def why_not(
    one: Evaluated, other: Evaluated, *, allow_different_dtypes: bool = False
) -> str | None:
    """Why the losses of two evaluations cannot be paired; ``None`` where they can.

    With ``allow_different_dtypes`` another arithmetic is no reason: somebody asked what it does.

    What older records do not tell must be shown otherwise: by the unquantized model's own losses,
    which are equal window by window only on the same tokens, of the same model, in the same
    arithmetic.
    """
    a, b = one.circumstances, other.circumstances
    if one.metric != other.metric:
        return f"{one.metric} and {other.metric} are different quantities"
    for name, x, y in (
        ("unquantized models", a.base, b.base),
        ("tokens evaluated", a.tokens, b.tokens),
    ):
        if x and y and x != y:
            return f"the {name} differ ({_short(x)} and {_short(y)})"
    if a.window_tokens != b.window_tokens:
        return "the windows evaluated differ"
    if (
        a.arithmetic
        and b.arithmetic
        and a.arithmetic != b.arithmetic
        and not allow_different_dtypes
    ):
        return f"computed in {a.arithmetic} and in {b.arithmetic}"
    known = all((a.base, b.base, a.tokens, b.tokens, a.arithmetic, b.arithmetic))
    return None if known else _not_shown(a, b)


def log_ratio(one: Evaluated, other: Evaluated) -> Interval:
    """Logarithm of ``one``'s perplexity over ``other``'s, both on the same tokens."""
    difference = _difference(one, other, one.loss_sums, other.loss_sums, one.sizes)
    scale = one.scale
    return Interval(scale * difference.estimate, scale * difference.low, scale * difference.high)


def ratio(one: Evaluated, other: Evaluated) -> Interval:
    """``one``'s perplexity over ``other``'s."""
    log = log_ratio(one, other)
    return Interval(*(exponential(x) for x in (log.estimate, log.low, log.high)))


def delta(one: Evaluated, other: Evaluated) -> Interval:
    """``one``'s perplexity minus ``other``'s: the first-order expansion around both means.

    As ``runner.evaluation.metrics.perplexity.perplexity_change`` does for one draw.
    """
    weighted = one.value * one.loss_sums, other.value * other.loss_sums
    linear = _difference(one, other, *weighted, one.sizes)
    scale = one.scale
    middle = one.value - other.value
    return Interval(
        middle,
        middle + scale * (linear.low - linear.estimate),
        middle + scale * (linear.high - linear.estimate),
    )


def divergence_difference(one: Evaluated, other: Evaluated) -> Interval:
    """``one``'s KL divergence minus ``other``'s, in nats, both from the same unquantized model."""
    return _difference(one, other, one.divergence_sums, other.divergence_sums, one.divergence_sizes)


def agreement_difference(one: Evaluated, other: Evaluated) -> Interval:
    """Difference of the shares of tokens with the same most likely one as the same reference."""
    return _difference(one, other, one.agreement_sums, other.agreement_sums, one.divergence_sizes)


def divergence(one: Evaluated) -> Interval:
    """KL divergence from the unquantized model, over draws and clusters."""
    return crossed_interval(one.divergence_sums, one.divergence_sizes)


def same_reference(
    one: Evaluated, other: Evaluated, *, allow_different_dtypes: bool = False
) -> bool:
    """Whether both KL divergences are from the same distributions on the same tokens.

    With ``allow_different_dtypes``, or from what the same model gives of them in each one's
    arithmetic.
    """
    return (
        bool(one.divergences and other.divergences)
        and one.divergence_metric == other.divergence_metric
        and len(one.divergences[0]) == len(other.divergences[0])
        and why_not(one, other, allow_different_dtypes=allow_different_dtypes) is None
        and (
            allow_different_dtypes
            or _alike(one.circumstances.reference, other.circumstances.reference)
        )
    )


def _difference(
    one: Evaluated,
    other: Evaluated,
    sums: "NDArray[np.float64]",
    others: "NDArray[np.float64]",
    sizes: "NDArray[np.float64]",
) -> Interval:
    if len(others) == 1:
        # One draw: nothing is known of others.
        return crossed_interval(sums - others, sizes)
    if sorted(one.draws) == sorted(other.draws):
        # Of one seed is one text to look at: what that does to both cancels.
        order = [other.draws.index(draw) for draw in one.draws]
        return crossed_interval(sums - others[order], sizes)
    return crossed_interval(sums, sizes, others)


def _not_shown(a: Circumstances, b: Circumstances) -> str | None:
    digests = (a.text[0], b.text[0])
    if None not in digests and digests[0] != digests[1]:
        return "the texts evaluated differ"
    if None in digests and a.text[1] != b.text[1]:
        return "the texts evaluated differ"
    if not _alike(a.reference, b.reference):
        return (
            "a record does not tell which tokens of which model were evaluated, and the "
            "unquantized model's losses do not show it either"
        )
    return None


def _alike(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return (
        bool(a)
        and len(a) == len(b)
        and all(abs(x - y) <= _SAME_LOSSES for x, y in zip(a, b, strict=True))
    )


def _short(digest: str) -> str:
    return digest.rpartition(":")[2][:8]
