"""Settings of stage ``compare``."""

from dataclasses import dataclass
from typing import Optional

from runner.config.bounds import bounded


@dataclass
class Compare:
    """Two sweeps (``SWEEP``) or two runs (``SWEEP/RUN``; the run's number is enough)."""

    a: Optional[str] = bounded(None, shortened=True)
    b: Optional[str] = bounded(None, shortened=True)
    allow_different_dtypes: bool = False
    """Compare quality across different arithmetic too (``eval.dtype``), to see its effect."""
    min_recovery: Optional[float] = bounded(None, above=True, most=1)
    """Threshold: least accuracy of b on the tasks, as a share of a's."""
    max_perplexity_ratio: Optional[float] = bounded(None, least=1)
    """Threshold: largest perplexity of b, as a ratio to a's."""
    max_kl: Optional[float] = bounded(None)
    """Threshold: how much larger b's KL divergence from the unquantized model may be than a's, in
    nats per token."""
    max_slowdown: Optional[float] = bounded(None, most=0.999)
    """Threshold: largest loss of decode speed of b, as a share of a's."""
    alpha: float = bounded(0.05, above=True, most=0.4)
    """Probability of error of each threshold's test."""
