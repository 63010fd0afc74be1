"""Limits of ``decide``: what is measured against each, and what a row that breaks it is told.

A limit of quality is kept by the whole 95% interval: a recipe of which four windows cannot tell
whether it loses 5 or 15% is not one that is shown to lose at most 10%.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.config.schema.decide import MEASURED_BY, Decide
from runner.evaluation.metrics.simultaneous import clusters_needed
from runner.evaluation.metrics.statistics import Interval
from runner.reporting.quality.evaluated import Evaluated
from runner.reporting.rows import Row

_SIZED_BY = ("quantize", "bench")
Measured = tuple[float, float, float]
"""Estimate and both ends of the 95% interval; all equal where it is exact."""


class State(Enum):
    """Whether a limit is kept."""

    kept = "kept"
    broken = "broken"
    untold = "untold"
    """The interval reaches beyond the limit, and back within it."""
    unknown = "unknown"
    """It was not measured."""


@dataclass(frozen=True)
class Finding:
    """How a row stands to a limit."""

    field: str
    state: State
    says: str
    over: float
    """By how much of the limit it, or its interval, is beyond; infinite where nobody knows."""


@dataclass(frozen=True)
class Limit:
    """A field of ``decide`` that holds a number."""

    field: str
    what: str
    """What is limited."""
    read: Callable[[Row], Measured | None]
    shown: Callable[[float], str]
    is_most: bool = True
    """Whether more is worse."""
    is_quality: bool = False
    losses: Callable[[Evaluated], Sequence[Sequence[float]]] | None = None
    """What it is the mean of, by draw and window of text."""
    is_ratio: bool = False
    is_resource: bool = False
    """Whether it limits size, memory or speed."""

    def finding(self, row: Row, bound: float) -> Finding:
        """How a row stands to it.

        Args:
            row: A row with a result.
            bound: The number set.
        """
        found = self.read(row)
        if found is None:
            stages = " or ".join(MEASURED_BY.get(self.field, _SIZED_BY))
            says = f"{self.what} not measured: stage {stages}"
            return Finding(self.field, State.unknown, says, float("inf"))
        value, low, high = found
        worst, best = (high, low) if self.is_most else (low, high)
        sign = 1 if self.is_most else -1
        if sign * (worst - bound) <= 0:
            return Finding(self.field, State.kept, "", 0.0)
        over = sign * (worst - bound)
        amount = self.shown(value)
        if low != high:
            amount += f" [{self.shown(low)}, {self.shown(high)}]"
        is_broken = sign * (best - bound) > 0
        state = State.broken if is_broken else State.untold
        far = "over" if self.is_most else "short"
        if low == high:
            says = f"{self.what} {amount}, {far} by {self.shown(over)}"
        elif is_broken:
            side = "above" if self.is_most else "below"
            says = f"{self.what} {amount}, {side} {self.shown(bound)}"
        else:
            says = f"{self.what} {amount}, not shown to be {self.words(bound)}"
            says += self._needed(row, found, bound)
        return Finding(self.field, state, says, over / abs(bound))

    def _needed(self, row: Row, found: Measured, bound: float) -> str:
        """How much text would tell on which side of the limit a row is."""
        own = row.evaluated
        if own is None or self.losses is None or not (losses := self.losses(own)):
            return ""
        windows = len(losses[0])
        clusters = len(set(own.clusters[:windows]))
        ends = [*found, bound]
        if self.is_ratio:
            ends = [math.log(end) if 0 < end < math.inf else math.inf for end in ends]
        count = clusters_needed(Interval(*ends[:3]), clusters, ends[3])
        unit = "windows" if clusters == windows else "documents"
        return "" if count is None else f": about {count:,} {unit} would tell"

    def words(self, bound: float) -> str:
        """As in ``at most 120 MB``."""
        return f"at {'most' if self.is_most else 'least'} {self.shown(bound)}"


def _exact(name: str) -> Callable[[Row], Measured | None]:
    def read(row: Row) -> Measured | None:
        value = getattr(row, name)
        return None if value is None else (value, value, value)

    return read


def _kl(row: Row) -> Measured | None:
    if row.is_baseline:
        return 0.0, 0.0, 0.0
    found = row.kl_divergence, row.kl_divergence_low, row.kl_divergence_high
    return _whole(found)


def _ratio(row: Row) -> Measured | None:
    if row.is_baseline:
        return None if row.perplexity is None else (1.0, 1.0, 1.0)
    return _whole((row.perplexity_ratio, row.perplexity_ratio_low, row.perplexity_ratio_high))


def _recovery(row: Row) -> Measured | None:
    if row.task_accuracy is None:
        return None
    if row.is_baseline:
        return 1.0, 1.0, 1.0
    base = row.task_accuracy_baseline
    deltas = row.task_accuracy_delta, row.task_accuracy_delta_low, row.task_accuracy_delta_high
    found = _whole(deltas)
    if not base or found is None:
        return None
    value, low, high = (1 + one / base for one in found)
    return value, low, high


def _whole(found: tuple[float | None, float | None, float | None]) -> Measured | None:
    """Without an interval nothing is shown: it is as wide as can be."""
    value, low, high = found
    if value is None:
        return None
    return (
        value,
        float("-inf") if low is None else low,
        float("inf") if high is None else high,
    )


def megabytes(size: float) -> str:
    """As in ``100.4 MB``, ``120 MB`` or ``15.21 GB``."""
    if size >= 1e10:
        return f"{size / 1e9:.2f} GB"
    value, unit = (size / 1e6, "MB") if size >= 1e5 else (size / 1e3, "kB")
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


LIMITS = (
    Limit("max_checkpoint_bytes", "checkpoint", _exact("checkpoint_bytes"), megabytes,
          is_resource=True),
    Limit("max_memory_bytes", "peak memory", _exact("peak_memory_bytes"), megabytes,
          is_resource=True),
    Limit("min_recovery", "recovery of accuracy", _recovery, "{:.1%}".format,
          is_most=False, is_quality=True),
    Limit("max_kl", "KL divergence", _kl, "{:.4f}".format,
          is_quality=True, losses=lambda own: own.divergences),
    Limit("max_perplexity_ratio", "perplexity", _ratio, "{:.3f}x".format,
          is_quality=True, losses=lambda own: own.losses, is_ratio=True),
    Limit("min_decode_tokens_per_second", "decode", _exact("decode_tokens_per_second"),
          "{:.1f} tok/s".format, is_most=False, is_resource=True),
    Limit("max_ttft_seconds", "first token", _exact("time_to_first_token_seconds"),
          lambda seconds: f"{seconds * 1e3:.1f} ms", is_resource=True),
)  # fmt: skip


def limits_set(decide: Decide) -> Iterator[tuple[Limit, float]]:
    """The numeric limits that are set, and their bounds."""
    for limit in LIMITS:
        bound = getattr(decide, limit.field)
        if bound is not None:
            yield limit, float(bound)


def findings(row: Row, decide: Decide, is_on_device: bool) -> list[Finding]:
    """The limits that a row does not keep, or is not shown to.

    Args:
        row: A row with a result.
        decide: The limits.
        is_on_device: Whether it was measured on the device that is asked for.
    """
    found = [limit.finding(row, bound) for limit, bound in limits_set(decide)]
    elsewhere = float("inf")
    if decide.engine is not None and row.engine != decide.engine:
        says = f"measured on engine {row.engine}"
        found.append(Finding("engine", State.broken, says, elsewhere))
    if not is_on_device:
        says = f"measured on {row.machine or 'no device that is known'}"
        found.append(Finding("hardware", State.broken, says, elsewhere))
    return [one for one in found if one.state is not State.kept]
