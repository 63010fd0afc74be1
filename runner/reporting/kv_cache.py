"""Whether what rounded weights and a rounded KV cache do to quality adds up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config.schema.root import StageName
from runner.evaluation.metrics.crossed import crossed_interval
from runner.evaluation.metrics.statistics import Interval
from runner.planning.runtime_format import recorded_kv_cache
from runner.reporting.quality.evaluated import Evaluated, first_evaluation
from runner.reporting.quality.paired import divergence, same_reference
from runner.store.records import RECIPE, RunRecord

if TYPE_CHECKING:
    from rich.console import Console

_HEAD = ("weights", "KV cache", "metric", "KL weights", "KL cache", "sum", "KL both", "both - sum")
_RIGHT = 3
"""Columns before the numbers."""


@dataclass(frozen=True)
class Addition:
    """KL divergences from the unquantized model in nats: of weights, of a cache, and of both."""

    model: str
    engine: str
    weights: str
    kv_cache: str
    metric: str
    of_weights: Interval
    of_cache: Interval
    of_both: Interval
    excess: Interval
    """``of_both`` less the sum of the others, with a 95% interval, paired on the same windows."""

    @property
    def total(self) -> float:
        """What both would do if errors added up."""
        return self.of_weights.estimate + self.of_cache.estimate


def additions(records: Sequence[RunRecord]) -> list[Addition]:
    """Every rounded cache with rounded weights of which each alone was measured too."""
    alone: list[tuple[RunRecord, Evaluated]] = []
    both: list[tuple[RunRecord, Evaluated]] = []
    caches: list[tuple[RunRecord, Evaluated]] = []
    for record in records:
        found = first_evaluation(record, RECIPE)
        if found is None or not found.divergences or len(found.divergences) > 1:
            continue
        rounded = record.entry(StageName.quantize, RECIPE) is not None
        if recorded_kv_cache(record.config).is_auto:
            alone += [(record, found)] if rounded else []
        else:
            (both if rounded else caches).append((record, found))
    return [one for pair in both for one in _added(pair, alone, caches)]


def _added(
    both: tuple[RunRecord, Evaluated],
    weights: Sequence[tuple[RunRecord, Evaluated]],
    caches: Sequence[tuple[RunRecord, Evaluated]],
) -> Iterator[Addition]:
    record, found = both
    held = recorded_kv_cache(record.config)
    label = weights_label(record)

    def is_alike(other: RunRecord, its: Evaluated) -> bool:
        places = {(one.model, one.engine) for one in (record, other)}
        return len(places) == 1 and same_reference(found, its)

    one = next((its for r, its in weights if r.label == label and is_alike(r, its)), None)
    other = next(
        (its for r, its in caches if recorded_kv_cache(r.config) == held and is_alike(r, its)),
        None,
    )
    if one is None or other is None:
        return
    sums = found.divergence_sums - one.divergence_sums - other.divergence_sums
    yield Addition(
        record.model,
        record.engine,
        label,
        held.label,
        found.divergence_metric,
        divergence(one),
        divergence(other),
        divergence(found),
        crossed_interval(sums, found.divergence_sizes),
    )


def weights_label(record: RunRecord) -> str:
    """A record's label without its KV cache."""
    return record.label.partition(",kv_cache=")[0]


def show_additions(found: Sequence[Addition], console: "Console") -> None:
    """Print a line for each, under a title; nothing where there is none."""
    from rich.table import Table

    if not found:
        return
    console.print("\ndo errors of weights and KV cache add up?", style="bold")
    table = Table(box=None)
    for place, name in enumerate(_HEAD):
        table.add_column(name, justify="right" if place >= _RIGHT else "left")
    for one in found:
        more = one.excess
        table.add_row(
            one.weights,
            one.kv_cache,
            one.metric,
            *(
                f"{value:.4f}"
                for value in (
                    one.of_weights.estimate,
                    one.of_cache.estimate,
                    one.total,
                    one.of_both.estimate,
                )
            ),
            f"{more.estimate:+z.4f} [{more.low:+z.4f}, {more.high:+z.4f}]",
        )
    console.print(table)
