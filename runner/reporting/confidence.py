"""Divergence by the unquantized model's confidence, of every run that has it."""

from dataclasses import dataclass

from runner.evaluation.metrics.confidence import ConfidenceBucket
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.reporting.quality.evaluated import seed_of
from runner.reporting.rows import Row
from runner.store.records import RunRecord


@dataclass
class Line:
    """One recipe's buckets; ``row`` is its place among the answer's rows."""

    row: int
    recipe: str
    engine: str
    metric: str
    """As in ``kl_divergence/spread_512``."""
    buckets: list[ConfidenceBucket]


def confidence_lines(records: list[RunRecord], rows: list[Row]) -> list[Line]:
    """A line for each recipe whose evaluation has buckets; one a draw where it has several."""
    by_run = {(record.sweep, record.run): record for record in records}
    lines = []
    for number, row in enumerate(rows):
        several = (row.seeds or 1) > 1
        for run in (row.runs or "").split() if several else [row.run or ""]:
            record = by_run.get((row.sweep or "", run))
            found = None if record is None else record.result(EVAL)
            if record is None or found is None or found.divergence is None:
                continue
            if buckets := found.divergence.confidence:
                name = f"{row.recipe}, seed {seed_of(record)}" if several else row.recipe
                metric = found.divergence.metric("kl_divergence")
                lines.append(Line(number, name, row.engine, metric, buckets))
    return lines
