"""Claims that are tested against a sweep's results."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import BYTES, bounded
from runner.util.extensions import Kind, extensions


class Metric(StrEnum):
    """What two runs are compared by, besides the headline figures of plug-ins' stages."""

    perplexity = "perplexity"
    """With a 95% interval, paired on the losses of the same tokens."""
    bits_per_weight = "bits_per_weight"
    """Read from what was written: exact."""
    accuracy = "accuracy"
    """Share of right answers, of ``task`` or as the mean over tasks; with a 95% interval, paired
    item by item."""
    quantize_seconds = "quantize_seconds"
    """One timing: taken as right within a factor of 1.5."""


class Effect(Enum):
    """How two values are compared."""

    difference = "difference"
    """Left minus right."""
    ratio = "ratio"
    """Left over right."""


def _metrics() -> tuple[str, ...]:
    stages = (one.load() for one in extensions(Kind.stage).values() if not one.is_builtin)
    return (*Metric, *(name for stage in stages for name in stage.headline))


@dataclass
class Claim:
    """A sentence about two sides of a sweep, and the size of the effect that it asserts.

    It asserts the effect for every pair of runs: one from each side, equal in whatever else
    both were told.
    """

    id: str = MISSING
    sentence: str = bounded(MISSING, prose=True)
    metric: str = bounded(Metric.perplexity.value, choices=_metrics)
    """``perplexity``, ``accuracy``, ``bits_per_weight``, ``quantize_seconds``, or a plug-in stage's
    figure."""
    left: str = bounded(MISSING, prose=True)
    """Runs, by what they were told or had by default: ``method=rtn group_size=g32``."""
    right: str = bounded(MISSING, prose=True)
    """The runs to compare with, or ``unquantized``: the model that each left run started from."""
    effect: Effect = Effect.difference
    at_least: Optional[float] = bounded(None, least=-BYTES, most=BYTES)
    at_most: Optional[float] = bounded(None, least=-BYTES, most=BYTES)
    task: Optional[str] = None
    """Whose ``accuracy``; by default the mean over all tasks."""
