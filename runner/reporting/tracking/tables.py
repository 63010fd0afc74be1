"""Rows for a tracker's tables: runs, a benchmark's samples, tasks, layers' sensitivities."""

from dataclasses import fields
from typing import Any

from runner.reporting.rows import Row
from runner.util.serialise import to_json

Cells = tuple[list[str], list[list[Any]]]
"""Names of columns and the rows below them."""


def runs_table(rows: list[Row]) -> Cells:
    """One line a row of the answer."""
    names = [field.name for field in fields(Row)]
    contents = [to_json(row) for row in rows]
    return names, [[content[name] for name in names] for content in contents]


def samples_table(bench: dict[str, Any]) -> Cells:
    """Every repetition of a benchmark, one line a sample."""
    lines = [
        [batch["batch_size"], metric, number, sample]
        for batch in bench["batches"]
        for metric, value in batch.items()
        if isinstance(value, dict)
        for number, sample in enumerate(value.get("samples") or [])
    ]
    return ["batch_size", "metric", "repetition", "value"], lines


def tasks_table(tasks: dict[str, Any]) -> Cells:
    """One line for each task and metric; the changes are against the unquantized model."""
    names = ["task", "metric", "filter", "value", "standard_error"]
    changes = ["delta", "recovery_percent", "answers_changed"]
    lines = [
        [task["task"], *(score[name] for name in names[1:])]
        + [(score["change"] or {}).get(name) for name in changes]
        for task in tasks["tasks"]
        for score in task["scores"]
    ]
    return [*names, *changes], lines


def sensitivity_table(sensitivity: dict[str, Any]) -> Cells:
    """One line for each layer and rounding."""
    lines = [
        [
            row["unit"],
            row["rounding"],
            row["kl_divergence"]["estimate"],
            row["perplexity"],
            row["perplexity_delta"]["estimate"],
        ]
        for row in sensitivity["rows"]
    ]
    return ["unit", "rounding", "kl_divergence", "perplexity", "perplexity_delta"], lines
