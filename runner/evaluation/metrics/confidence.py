"""Divergence by the unquantized model's confidence: the probability of its most likely token.

A mean over all tokens is made by those that the unquantized model is unsure of, where a flip is as
good as chance. What quantization does to tokens that it is sure of (digits, names, syntax) is
lost in it. The edges are those of ExLlamaV3's evaluation (``eval/qbench``).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.evaluation.metrics.statistics import Interval, cluster_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EDGES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Of the buckets; each holds its lower edge, and the last one both."""


@dataclass
class ConfidenceBucket:
    """Tokens whose most likely one has about the same probability under the unquantized model."""

    low: float
    high: float
    tokens: int
    kl_divergence: Interval | None
    """Mean over these tokens of KL(unquantized || recipe) in nats, with the 95% interval over
    windows or their documents that have any; ``None`` without a token."""
    flips: int
    """Tokens whose most likely one is another under the recipe."""

    @property
    def flipped_share(self) -> float | None:
        """Share of these tokens; ``None`` without a token."""
        return self.flips / self.tokens if self.tokens else None

    @property
    def label(self) -> str:
        """As in ``75 to 95%``."""
        return f"{100 * self.low:.0f} to {100 * self.high:.0f}%"


def by_confidence(
    confidence: Sequence["NDArray[np.float32]"],
    divergence: Sequence["NDArray[np.float32]"],
    same_top_1: Sequence["NDArray[np.float32]"],
    clusters: Sequence[int] | None = None,
) -> list[ConfidenceBucket]:
    """A bucket for each pair of neighbouring ``EDGES``; each argument has an array a window.

    Args:
        confidence: The unquantized model's probability of its most likely token, of each token.
        divergence: KL(unquantized || recipe) in nats.
        same_top_1: 1 where both find the same token the most likely, else 0.
        clusters: Of each window, which document it is of; by default each is one of its own.
    """
    import numpy as np

    buckets = []
    for low, high in itertools.pairwise(EDGES):
        # A probability is at most 1, but for a last digit.
        inside = [
            (window >= low) & ((window < high) | (high == EDGES[-1])) for window in confidence
        ]
        sizes = np.array([float(chosen.sum()) for chosen in inside])
        pairs = list(zip(divergence, inside, strict=True))
        sums = np.array([np.sum(kl[chosen], dtype=np.float64) for kl, chosen in pairs])
        flips = sum(
            int(np.sum(same[chosen] == 0)) for same, chosen in zip(same_top_1, inside, strict=True)
        )
        used = sizes > 0
        of_these = None if clusters is None else list(np.asarray(clusters)[used])
        mean = cluster_interval(sums[used], sizes[used], of_these) if used.any() else None
        buckets.append(ConfidenceBucket(low, high, int(sizes.sum()), mean, flips))
    return buckets
