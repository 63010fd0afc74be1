"""The rule by which a speed counts as different from the unquantized model's.

Two measurements of one thing that are made at different times on a machine that others use differ
by much more than their repetitions do: by the 95% interval of the repetitions alone, a third of
such pairs "differ". So a ratio's interval knows how it was measured:

- in turns: pairs of repetitions by Student's t on the logarithms of their ratios;
- measured again: the unquantized model before and after the recipe, whose difference is the spread
  of such measurements, with one degree of freedom (``compare_between``);
- separately, as records of older versions and ``bench.interleave=never`` have it: nothing says what
  the machine did, so no difference is told.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from runner.evaluation.metrics.noise import Comparison, compare, compare_between
from runner.evaluation.metrics.speed import BatchResult, InTurns
from runner.evaluation.metrics.statistics import Interval, Summary
from runner.pipeline.stages.bench import BenchResult

DECODE = "decode_tokens_per_second"
FIRST_TOKEN = "time_to_first_token_seconds"
_IN_TURNS: dict[str, Callable[[InTurns], Comparison]] = {
    DECODE: lambda turns: turns.decode,
    FIRST_TOKEN: lambda turns: turns.time_to_first_token,
}
_SUMMARIES: dict[str, Callable[[BatchResult], Summary]] = {
    DECODE: lambda batch: batch.decode_tokens_per_second,
    FIRST_TOKEN: lambda batch: batch.time_to_first_token_seconds,
}


class Protocol(Enum):
    """How a recipe and the unquantized model were compared."""

    in_turns = "in turns"
    again = "measured again"
    apart = "separately"


@dataclass(frozen=True)
class MeasuredRatio:
    """The recipe's figure over the unquantized model's, and how that was found."""

    comparison: Comparison
    how: Protocol


def against_unquantized(
    bench: BenchResult,
    baseline: BenchResult | None,
    again: BenchResult | None,
    batch_size: int,
    metric: str = DECODE,
) -> MeasuredRatio | None:
    """A recipe's speed over the unquantized model's at one batch size.

    Args:
        bench: Result of stage ``bench`` on the recipe.
        baseline: That on the unquantized model.
        again: That on it once more, after the recipe.
        batch_size: Sequences at once.
        metric: A figure of every batch, with samples.

    Returns:
        ``None`` where there is nothing to compare with, or no repetitions were kept.
    """
    for turns in bench.in_turns:
        if turns.batch_size == batch_size and metric in _IN_TURNS:
            return MeasuredRatio(_IN_TURNS[metric](turns), Protocol.in_turns)
    own, before, after = (samples(one, batch_size, metric) for one in (bench, baseline, again))
    if not own or not before:
        return None
    if after:
        return MeasuredRatio(compare_between(own, before, after), Protocol.again)
    estimate = compare(own, before).ratio.estimate
    unknown = Interval(estimate, 0.0, math.inf)
    return MeasuredRatio(Comparison(unknown, within_noise=True, paired=False), Protocol.apart)


def summary_of(batch: BatchResult, metric: str) -> Summary:
    """A speed of one batch size, by its name."""
    return _SUMMARIES[metric](batch)


def samples(bench: BenchResult | None, batch_size: int, metric: str) -> list[float]:
    """A figure's positive samples at one batch size; empty where there are none."""
    for batch in bench.batches if bench is not None else ():
        if batch.batch_size == batch_size:
            values = summary_of(batch, metric).samples
            return values if values and min(values) > 0 else []
    return []
