"""Drift of the machine between two runs: the change of the unquantized model's speed.

Runs measure the unquantized model beside their recipe, most within the same minutes. The same
weights in the same engine on the same machine have one speed, so where two measurements of them
differ, the machine did (its clock, its neighbours), and may have done so to the recipes too.
"""

from dataclasses import dataclass
from typing import Any

from runner.pipeline.stages.bench import STAGE as BENCH
from runner.planning.hardware.detect import kind_of
from runner.reporting.timing import summary_of
from runner.store.records import BASELINE, RunRecord, StageRecord


@dataclass(frozen=True)
class Drift:
    """The unquantized model's speeds in two runs; without any where they say nothing of drift."""

    means: dict[tuple[int, str], tuple[float, float]]
    """By batch size and metric, in a and in b."""

    def of(self, metric: str, batch_size: int) -> float | None:
        """Their ratio, b over a; ``None`` where it is not known."""
        a, b = self.means.get((batch_size, metric), (0.0, 0.0))
        return b / a if a > 0 and b > 0 else None


def drift_between(a: RunRecord, b: RunRecord, metrics: tuple[str, ...]) -> Drift:
    """How the unquantized model's ``metrics`` changed from run ``a`` to run ``b``.

    Not known where a run has not measured it, where both share one measurement (runs of a sweep
    do), and where more than time lies between: another engine, other settings, versions of
    packages or lengths, another machine.
    """
    one, other = (record.entry(BENCH.name, BASELINE) for record in (a, b))
    if one is None or other is None or not alike(a, b, one, other):
        return Drift({})
    mine, its = a.read(one, BENCH), b.read(other, BENCH)
    if mine is None or its is None or mine.batches == its.batches:
        return Drift({})
    opposite = {batch.batch_size: batch for batch in its.batches}
    return Drift(
        {
            (size, metric): (
                summary_of(batch, metric).mean,
                summary_of(opposite[size], metric).mean,
            )
            for batch in mine.batches
            if (size := batch.batch_size) in opposite
            for metric in metrics
        }
    )


def alike(a: RunRecord, b: RunRecord, one: StageRecord, other: StageRecord) -> bool:
    """Whether two runs' measurements were made under the same circumstances but for the time."""

    def circumstances(record: RunRecord, entry: StageRecord) -> tuple[Any, ...]:
        bench = record.read(entry, BENCH)
        lengths = None if bench is None else (bench.prompt_tokens, bench.new_tokens)
        engine = (record.engine, record.config.get("engine"), entry.environment, entry.versions)
        return record.model, kind_of(record.host), lengths, engine

    return circumstances(a, one) == circumstances(b, other)
