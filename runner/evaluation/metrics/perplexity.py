"""Perplexity from token losses, and its change against the unquantized model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.data.texts.sample import Sample
from runner.evaluation.metrics.statistics import (
    Interval,
    cluster_interval,
    effective_number,
    intraclass_correlation,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Losses = Sequence[NDArray[np.floating]] | NDArray[np.floating]
    """Each window's token losses in nats; windows may differ in length."""


@dataclass
class Perplexity:
    """Exponential of the loss a token, word or byte, with the protocol it was measured by."""

    protocol: str
    """Protocol and context length: see ``runner.config.schema.eval.PerplexityProtocol``."""
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
    """Intraclass correlation of the windows of a document: of their differences from the
    unquantized model where there is one, else of their losses. ``None`` where it cannot be told:
    no document has two windows, or all are of one."""
    effective_windows: float | None = None
    """Independent windows that would say as much (Kish); ``None`` where that cannot be told."""

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
    losses: "Losses",
    protocol: str,
    unit: str = "token",
    units: int | None = None,
    *,
    sample: Sample | None = None,
    baseline_losses: "Losses | None" = None,
) -> Perplexity:
    """Perplexity of token losses.

    Args:
        losses: Each window's.
        protocol: For the metric's name.
        unit: What the loss is divided by: ``token``, ``word`` or ``byte``.
        units: How many of those; by default the tokens.
        sample: Where the windows come from; by default each is independent of the others.
        baseline_losses: The unquantized model's, of the same shapes. Windows are as alike as their
            differences from it are.
    """
    import numpy as np

    sums, sizes = _sums(losses)
    tokens = int(sizes.sum())
    sample = Sample() if sample is None else sample
    means = np.divide(sums, sizes)
    documents = sample.window_documents or list(range(len(sums)))
    compared = means if baseline_losses is None else means - np.divide(*_sums(baseline_losses))
    icc = intraclass_correlation(compared, documents)
    return Perplexity(
        protocol=protocol,
        value=_exp(float(sums.sum()) / (units or tokens)),
        windows=len(sums),
        tokens_scored=tokens,
        window_losses=[float(loss) for loss in means],
        unit=unit,
        units_scored=units or tokens,
        window_tokens=[int(size) for size in sizes],
        sample=sample,
        icc=icc,
        effective_windows=effective_number(documents, icc),
    )


def perplexity_change(
    losses: "Losses",
    baseline_losses: "Losses",
    units: int | None = None,
    clusters: Sequence[int] | None = None,
) -> PerplexityChange:
    """Compare two models' losses on the same windows.

    The ratio's interval is that of the mean paired difference of losses, exponentiated, with
    clusters of windows as the independent units. The delta's uses the first-order expansion of both
    perplexities around their means, which keeps their covariance (as
    ``llama-perplexity --kl-divergence``).

    Args:
        losses: The recipe's.
        baseline_losses: The unquantized model's, of the same shapes.
        units: Words or bytes that were scored; by default the tokens.
        clusters: Of each window, which document it is of (``Sample.independent``); by default
            each window is independent of the others.
    """
    loss, sizes = _sums(losses)
    base, _ = _sums(baseline_losses)
    # Per unit instead of per token.
    scale = float(sizes.sum()) / (units or float(sizes.sum()))
    value = _exp(scale * float(loss.sum() / sizes.sum()))
    baseline = _exp(scale * float(base.sum() / sizes.sum()))
    log_ratio = cluster_interval(loss - base, sizes, clusters)
    linear = cluster_interval(value * loss - baseline * base, sizes, clusters)
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
