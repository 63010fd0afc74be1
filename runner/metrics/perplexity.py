"""Perplexity from token losses, and its change against the unquantized model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.metrics.sample import Sample
from runner.metrics.statistics import Interval, cluster_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Losses = Sequence[NDArray[np.floating]] | NDArray[np.floating]
    """Each window's token losses in nats; windows may differ in length."""


@dataclass
class Perplexity:
    """Exponential of the loss a token, word or byte, with the protocol it was measured by."""

    protocol: str
    """Protocol and context length: see ``runner.config.eval.PerplexityProtocol``."""
    value: float
    windows: int
    tokens_scored: int
    window_losses: list[float]
    """Mean negative log-likelihood of each window's tokens, in nats."""
    unit: str = "token"
    """What the loss is divided by: ``token``, ``word`` or ``byte``."""
    units_scored: int = 0
    """Tokens, words or bytes that the loss was divided by; 0 in older records."""
    window_tokens: list[int] = field(default_factory=list)
    """Tokens of each window that were scored; empty in older records."""
    sample: Sample = field(default_factory=Sample)
    icc: float | None = None
    """Intraclass correlation of windows of one document; ``None`` where no document has two."""
    effective_windows: float | None = None
    """Independent windows that would say as much; ``None`` where ``icc`` is."""

    @property
    def metric(self) -> str:
        """Name of the metric, such as ``perplexity/gptq_512``."""
        return metric_name(self.protocol, self.unit)


@dataclass
class PerplexityChange:
    """Change against the unquantized model on the same tokens, 95% paired intervals."""

    baseline: float
    ratio: Interval
    delta: Interval
    """Difference of the perplexities."""


def metric_name(protocol: str, unit: str) -> str:
    """``perplexity/<protocol>``, with the unit in front where it is not the token."""
    return f"{'' if unit == 'token' else f'{unit}_'}perplexity/{protocol}"


def perplexity(
    losses: "Losses", protocol: str, unit: str = "token", units: int | None = None
) -> Perplexity:
    """Perplexity of token losses, over ``units`` words or bytes (default: the tokens)."""
    import numpy as np

    sums, sizes = _sums(losses)
    tokens = int(sizes.sum())
    return Perplexity(
        protocol=protocol,
        value=_exp(float(sums.sum()) / (units or tokens)),
        windows=len(sums),
        tokens_scored=tokens,
        window_losses=[float(loss) for loss in np.divide(sums, sizes)],
        unit=unit,
    )


def perplexity_change(
    losses: "Losses", baseline_losses: "Losses", units: int | None = None
) -> PerplexityChange:
    """Compare two models' losses on the same windows.

    The ratio's interval is that of the mean paired difference of losses, exponentiated, with
    windows as the independent units. The delta's uses the first-order expansion of both
    perplexities around their means, which keeps their covariance (as
    ``llama-perplexity --kl-divergence``).

    Args:
        losses: The recipe's.
        baseline_losses: The unquantized model's, of the same shapes.
        units: Words or bytes that were scored; by default the tokens.
    """
    loss, sizes = _sums(losses)
    base, _ = _sums(baseline_losses)
    # Per unit instead of per token.
    scale = float(sizes.sum()) / (units or float(sizes.sum()))
    value = _exp(scale * cluster_interval(loss, sizes).estimate)
    baseline = _exp(scale * cluster_interval(base, sizes).estimate)
    log_ratio = cluster_interval(loss - base, sizes)
    linear = cluster_interval(value * loss - baseline * base, sizes)
    delta = value - baseline
    return PerplexityChange(
        baseline=baseline,
        ratio=Interval(
            *(_exp(scale * x) for x in (log_ratio.estimate, log_ratio.low, log_ratio.high))
        ),
        delta=Interval(
            delta,
            delta + scale * (linear.low - linear.estimate),
            delta + scale * (linear.high - linear.estimate),
        ),
    )


def _sums(losses: "Losses") -> tuple["NDArray[np.float64]", "NDArray[np.float64]"]:
    import numpy as np

    sums = np.array([np.sum(window, dtype=np.float64) for window in losses])
    return sums, np.array([float(len(window)) for window in losses])


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
