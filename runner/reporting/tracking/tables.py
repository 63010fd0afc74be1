"""Rows for a tracker's tables: runs, a benchmark's samples, tasks, layers' sensitivities."""

from typing import Any

from runner.evaluation.metrics.statistics import Summary
from runner.pipeline.stages.bench import BenchResult
from runner.pipeline.stages.sensitivity import SensitivityResult
from runner.pipeline.stages.tasks import TasksResult
from runner.reporting.row import Row, figure_names

Cells = tuple[list[str], list[list[Any]]]
"""Names of columns and the rows below them."""


def runs_table(rows: list[Row]) -> Cells:
    """One line a row of the answer."""
    names = figure_names(rows)
    contents = [row.content() for row in rows]
    return names, [[content.get(name) for name in names] for content in contents]


def samples_table(bench: BenchResult) -> Cells:
    """Every repetition of a benchmark, one line a sample."""
    lines = [
        [batch.batch_size, metric, number, sample]
        for batch in bench.batches
        for metric, value in vars(batch).items()
        if isinstance(value, Summary)
        for number, sample in enumerate(value.samples)
    ]
    return ["batch_size", "metric", "repetition", "value"], lines


def tasks_table(tasks: TasksResult) -> Cells:
    """One line for each task and metric; the changes are against the unquantized model."""
    lines: list[list[Any]] = []
    for task in tasks.tasks:
        for score in task.scores:
            own = [task.task, score.metric, score.filter, score.value, score.standard_error]
            change = score.change
            changes: list[Any] = [None] * 3
            if change is not None:
                changes = [change.delta, change.recovery_percent, change.answers_changed]
            lines.append([*own, *changes])
    names = ["task", "metric", "filter", "value", "standard_error"]
    return [*names, "delta", "recovery_percent", "answers_changed"], lines


def sensitivity_table(sensitivity: SensitivityResult) -> Cells:
    """One line for each layer and rounding."""
    lines = [
        [
            row.unit,
            row.rounding,
            row.kl_divergence.estimate,
            row.perplexity,
            row.perplexity_delta.estimate,
        ]
        for row in sensitivity.rows
    ]
    return ["unit", "rounding", "kl_divergence", "perplexity", "perplexity_delta"], lines
