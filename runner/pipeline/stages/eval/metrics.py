"""Figures of an evaluation under names that carry unit and protocol, and its tables."""

import math
from typing import TYPE_CHECKING

from runner.evaluation.metrics.divergence import Divergence, TokenDistribution, TokenMean
from runner.evaluation.metrics.perplexity import metric_name
from runner.pipeline.stages.base import Cells

if TYPE_CHECKING:
    from runner.pipeline.stages.eval import EvalResult

_DISTRIBUTIONS = {
    "kl": "kl_divergence",
    "reverse_kl": "reverse_kl_divergence",
    "probability_change": "probability_change",
}
"""Names of metrics, and fields of ``Divergence``."""


def metrics_of(result: "EvalResult", section: str) -> dict[str, float | None]:
    """Perplexity by every protocol and unit, its change, and divergences.

    Args:
        result: Of the evaluation.
        section: The stage's name, which the names begin with.
    """
    metrics: dict[str, float | None] = {}
    first = (result.perplexity, result.change)
    for found, change in (first, *((one.perplexity, one.change) for one in result.further)):
        stem, _, protocol = metric_name(found.protocol, found.unit).partition("/")
        metrics[f"{stem}/{protocol}"] = found.value
        if found.unit == "byte":
            metrics[f"bits_per_byte/{protocol}"] = math.log2(found.value)
        if change is not None:
            for name, interval in (("ratio", change.ratio), ("delta", change.delta)):
                metrics[f"{stem}_{name}/{protocol}"] = interval.estimate
                metrics[f"{stem}_{name}_low/{protocol}"] = interval.low
                metrics[f"{stem}_{name}_high/{protocol}"] = interval.high
    if result.divergence is not None:
        metrics |= _of_divergence(result.divergence)
    return {f"{section}/{name}": value for name, value in metrics.items()}


def tables_of(result: "EvalResult", section: str) -> dict[str, Cells]:
    """Quantiles over tokens of the divergences, and these by confidence; one line each."""
    found = result.divergence
    if found is None:
        return {}
    lines = [
        [found.protocol, found.metric(name).partition("/")[0], quantile, value]
        for name, field in _DISTRIBUTIONS.items()
        for quantile, value in getattr(found, field).quantiles.items()
    ]
    tables: dict[str, Cells] = {
        f"{section}/quantiles": (["of", "metric", "quantile", "value"], lines)
    }
    buckets = [
        [found.protocol, b.low, b.high, b.tokens, b.kl_divergence.estimate, b.flipped_share]
        for b in found.confidence
        if b.kl_divergence is not None
    ]
    if buckets:
        names = ["of", "low", "high", "tokens", found.metric("kl_mean"), "flipped_share"]
        tables[f"{section}/confidence"] = (names, buckets)
    return tables


def _of_divergence(found: Divergence) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for name, field in _DISTRIBUTIONS.items():
        tokens: TokenDistribution = getattr(found, field)
        metrics[found.metric(f"{name}_mean")] = tokens.mean.estimate
        metrics[found.metric(f"{name}_standard_error")] = tokens.standard_error
    change = found.probability_change
    metrics[found.metric("probability_change_rms")] = change.root_mean_square
    for name in ("top_1_agreement", "log_perplexity_ratio"):
        mean: TokenMean = getattr(found, name)
        metrics[f"{name}/{found.protocol}"] = mean.mean.estimate
        metrics[f"{name}_standard_error/{found.protocol}"] = mean.standard_error
    metrics[f"log_probability_correlation/{found.protocol}"] = found.log_probability_correlation
    return metrics
