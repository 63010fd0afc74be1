"""How far a recipe's distributions of the next token are from the unquantized model's.

The quantities are those that ``llama-perplexity --kl-divergence`` prints, here for the tokens
of any protocol, and with intervals over windows beside its errors over tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.evaluation.metrics.confidence import ConfidenceBucket, by_confidence
from runner.evaluation.metrics.statistics import Interval, cluster_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIELDS = ("kl_divergence", "reverse_kl_divergence", "same_top_1", "reference_top_probability")
"""Rows of ``token_divergence``."""
_QUANTILES = (0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)


@dataclass
class TokenMean:
    """Mean over tokens."""

    mean: Interval
    """95% interval with the windows' documents as the independent units (``Sample.clusters``)."""
    standard_error: float
    """As if tokens were independent, which is what ``llama-perplexity`` prints."""


@dataclass
class TokenDistribution(TokenMean):
    """Mean and quantiles over tokens."""

    quantiles: dict[str, float]
    """``min``, ``p0.1`` … ``p99.9``, ``max``; ``p50`` is the median."""


@dataclass
class ProbabilityChange(TokenDistribution):
    """Change of the probability of the token that really follows (Δp), as a fraction."""

    root_mean_square: float


@dataclass
class Divergence:
    """A recipe against the unquantized model on the same tokens; KL divergence is in nats."""

    protocol: str
    """Whose tokens: see ``Perplexity.protocol``."""
    windows: int
    """Windows compared; fewer than were scored where the stored reference has a bound."""
    tokens: int
    kl_divergence: TokenDistribution
    """KL(unquantized || recipe)."""
    reverse_kl_divergence: TokenDistribution
    """KL(recipe || unquantized)."""
    top_1_agreement: TokenMean
    """Fraction of tokens where both find the same token the most likely; its standard error is
    the binomial one. One minus it is the fraction of flips."""
    probability_change: ProbabilityChange
    log_perplexity_ratio: TokenMean
    """ln(PPL(recipe) / PPL(unquantized)); its errors know the covariance of both."""
    log_probability_correlation: float
    """Of both models' losses over tokens."""
    top_k: int | None = None
    """Where the engine told no more than the k most likely tokens: so many. All others count as
    one outcome, and the KL divergences are lower bounds."""
    window_kl_divergence: list[float] = field(default_factory=list)
    """Mean KL(unquantized || recipe) of each window's tokens; empty in older records."""
    window_top_1_agreement: list[float] = field(default_factory=list)
    """The same of ``top_1_agreement``."""
    confidence: list[ConfidenceBucket] = field(default_factory=list)
    """By the unquantized model's probability of its most likely token; empty in older records."""

    def metric(self, name: str) -> str:
        """A quantity's name, such as ``kl_divergence/gptq_512`` or ``…_top_20/gptq_512``."""
        return f"{name}{'' if self.top_k is None else f'_top_{self.top_k}'}/{self.protocol}"


def token_divergence(
    base: "NDArray[np.float32]", own: "NDArray[np.float32]"
) -> "NDArray[np.float32]":
    """Compare log-probabilities of shape (tokens, vocabulary); gives ``FIELDS`` x tokens."""
    import numpy as np

    statistics = np.empty((len(FIELDS), len(base)), np.float32)
    # Row by row in the same room: fresh memory of a chunk's size costs more than the arithmetic.
    difference, probability = np.empty((2, base.shape[1]), np.float32)
    for i, (p, q) in enumerate(zip(base, own, strict=True)):
        np.subtract(p, q, out=difference)
        forward = np.einsum("i,i", np.exp(p, out=probability), difference)
        reverse = -np.einsum("i,i", np.exp(q, out=probability), difference)
        likeliest = p.argmax()
        same = likeliest == q.argmax()
        statistics[:, i] = forward, reverse, same, math.exp(p[likeliest])
    return statistics


def top_divergence(base: "NDArray[Any]", own: "NDArray[Any]") -> "NDArray[np.float32]":
    """Compare what is known of two top-k lists; gives ``FIELDS`` x tokens.

    All tokens that one of the lists lacks count as one outcome. Merging outcomes only lowers a
    KL divergence, so both are lower bounds of those over the whole vocabulary.

    Args:
        base: Shape (tokens, k + 1) with fields ``token`` and ``log_probability``: the k most
            likely tokens in descending order, then the right one.
        own: The same of the recipe.
    """
    import numpy as np

    statistics = np.empty((len(FIELDS), len(base)), np.float32)
    for i, (ours, theirs) in enumerate(zip(base, own, strict=True)):
        p, q = (dict(row.tolist()) for row in (ours, theirs))
        pairs = [(p[token], q[token]) for token in p.keys() & q.keys()]
        rest = [
            math.log(max(1e-9, 1 - sum(map(math.exp, side)))) for side in zip(*pairs, strict=True)
        ]
        pairs.append((rest[0], rest[1]))
        statistics[:, i] = (
            sum(math.exp(a) * (a - b) for a, b in pairs),
            sum(math.exp(b) * (b - a) for a, b in pairs),
            ours["token"][0] == theirs["token"][0],
            math.exp(ours["log_probability"][0]),
        )
    return statistics


def summarise_divergence(
    protocol: str,
    windows: Sequence["NDArray[np.float32]"],
    losses: Sequence["NDArray[np.float32]"],
    baseline_losses: Sequence["NDArray[np.float32]"],
    clusters: Sequence[int] | None = None,
) -> Divergence:
    """Statistics of tokens in windows.

    Args:
        protocol: Name for the result.
        windows: Each window's ``token_divergence``.
        losses: Each window's token losses in nats, of the recipe.
        baseline_losses: The same of the unquantized model.
        clusters: Of each window, which document it is of (``Sample.independent``); by default
            each window is independent of the others.
    """
    import numpy as np

    kl, reverse, same, confidence = (
        [window[row] for window in windows] for row in range(len(FIELDS))
    )
    change = [
        probability_change(own, base) for own, base in zip(losses, baseline_losses, strict=True)
    ]
    ratio = [
        own.astype(np.float64) - base for own, base in zip(losses, baseline_losses, strict=True)
    ]
    agreement = _mean(same, clusters)
    share = agreement.mean.estimate
    tokens = sum(len(window) for window in kl)
    agreement.standard_error = math.sqrt(share * (1 - share) / max(1, tokens - 1))
    both = np.corrcoef(np.concatenate(losses), np.concatenate(baseline_losses))
    return Divergence(
        protocol=protocol,
        windows=len(windows),
        tokens=tokens,
        kl_divergence=_distribution(kl, clusters),
        reverse_kl_divergence=_distribution(reverse, clusters),
        top_1_agreement=agreement,
        probability_change=ProbabilityChange(
            **vars(_distribution(change, clusters)),
            root_mean_square=float(np.sqrt(np.mean(np.concatenate(change) ** 2))),
        ),
        log_perplexity_ratio=_mean(ratio, clusters),
        log_probability_correlation=float(both[0, 1]),
        window_kl_divergence=[float(np.mean(window, dtype=np.float64)) for window in kl],
        window_top_1_agreement=[float(np.mean(window, dtype=np.float64)) for window in same],
        confidence=by_confidence(confidence, kl, same, clusters),
    )


def probability_change(
    losses: "NDArray[np.float32]", baseline_losses: "NDArray[np.float32]"
) -> "NDArray[np.float64]":
    """The right tokens' probability under the recipe minus that under the unquantized model."""
    import numpy as np

    change: NDArray[np.float64] = np.exp(-losses.astype(np.float64)) - np.exp(
        -baseline_losses.astype(np.float64)
    )
    return change


def _mean(windows: Sequence["NDArray[Any]"], clusters: Sequence[int] | None) -> TokenMean:
    import numpy as np

    values = np.concatenate(windows).astype(np.float64)
    sums = np.array([np.sum(window, dtype=np.float64) for window in windows])
    sizes = np.array([float(len(window)) for window in windows])
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.inf
    return TokenMean(cluster_interval(sums, sizes, clusters), error)


def _distribution(
    windows: Sequence["NDArray[Any]"], clusters: Sequence[int] | None
) -> TokenDistribution:
    import numpy as np

    values = np.concatenate(windows).astype(np.float64)
    distribution = {
        f"p{q:g}": float(v)
        for q, v in zip(_QUANTILES, np.percentile(values, _QUANTILES), strict=True)
    }
    ends = {"min": float(values.min()), "max": float(values.max())}
    return TokenDistribution(**vars(_mean(windows, clusters)), quantiles={**distribution, **ends})
