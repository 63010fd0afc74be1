"""Settings of stage ``gate``."""

from dataclasses import dataclass, fields
from typing import Optional

from runner.config.bounds import bounded

BASE = "base"
"""The unquantized model that a candidate was made of, as what it is held against."""


@dataclass
class Gate:
    """Criteria that a recipe must be shown to meet before it is released.

    All must pass. Each is a one-sided non-inferiority test.
    """

    candidate: Optional[str] = bounded(None, shortened=True)
    """``SWEEP`` or ``SWEEP/RUN`` to release; the latest sweep if null."""
    against: str = bounded(BASE, shortened=True, filled=True)
    """What it is held against: ``base``, the unquantized model of the same run, or a ``SWEEP`` or
    ``SWEEP/RUN`` that was released before."""
    min_recovery: Optional[float] = bounded(None, above=True, most=1)
    """Least accuracy on the tasks, as a share of the other's."""
    max_perplexity_ratio: Optional[float] = bounded(None, least=1)
    """Largest perplexity, as a ratio to the other's."""
    max_kl: Optional[float] = bounded(None)
    """Largest KL divergence from the unquantized model, in nats per token; against a run, how much
    larger than that run's it may be."""
    max_slowdown: Optional[float] = bounded(None, most=0.999)
    """Largest loss of decode speed at the first batch size, as a share of the other's."""
    alpha: float = bounded(0.05, above=True, most=0.4)
    """Probability of error of each test."""

    @property
    def criteria(self) -> dict[str, float]:
        """The limits that are set, by field."""
        values = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name.startswith(("min_", "max_"))
        }
        return {name: float(value) for name, value in values.items() if value is not None}
