"""Perplexity from token losses, and its change against the unquantized model."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.metrics.statistics import Interval, mean_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass
class Perplexity:
    """Exponential of the mean token loss, with the protocol it was measured by."""

    protocol: str
    """``gptq_<context length>``: disjoint full windows, first token of each unscored."""
    value: float
    windows: int
    tokens_scored: int
    window_losses: list[float]
    """Mean negative log-likelihood of each window, in nats."""


@dataclass
class PerplexityChange:
    """Change against the unquantized model on the same tokens, 95% paired intervals."""

    baseline: float
    ratio: Interval
    delta: Interval
    """Difference of the perplexities."""


def gptq_protocol(context_length: int) -> str:
    """Name of the protocol of arXiv 2210.17323 with this many tokens a window."""
    return f"gptq_{context_length}"


def perplexity(token_losses: "NDArray[np.float32]", protocol: str) -> Perplexity:
    """Perplexity of token losses of shape (windows, tokens scored in each)."""
    import numpy as np

    windows = token_losses.astype(np.float64).mean(axis=1)
    return Perplexity(
        protocol=protocol,
        value=math.exp(float(windows.mean())),
        windows=token_losses.shape[0],
        tokens_scored=token_losses.size,
        window_losses=[float(loss) for loss in windows],
    )


def perplexity_change(
    token_losses: "NDArray[np.float32]", baseline_losses: "NDArray[np.float32]"
) -> PerplexityChange:
    """Compare two models' losses on the same tokens; arrays of equal shape.

    The ratio's interval is that of the mean paired difference of window losses,
    exponentiated. The delta's uses the first-order expansion of both perplexities around
    their means, which keeps their covariance (as ``llama-perplexity --kl-divergence``).
    """
    import numpy as np

    loss = token_losses.astype(np.float64).mean(axis=1)
    base = baseline_losses.astype(np.float64).mean(axis=1)
    log_ratio = mean_interval(loss - base)
    value, baseline = np.exp(loss.mean()), np.exp(base.mean())
    linear = mean_interval(value * (loss - loss.mean()) - baseline * (base - base.mean()))
    delta = float(value - baseline)
    return PerplexityChange(
        baseline=float(baseline),
        ratio=Interval(*(_exp(x) for x in (log_ratio.estimate, log_ratio.low, log_ratio.high))),
        delta=Interval(delta, delta + linear.low, delta + linear.high),
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
