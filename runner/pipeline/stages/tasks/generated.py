"""Generated text as metrics and as a table for trackers."""

from collections.abc import Iterator
from typing import Any

from runner.evaluation.lm_eval.scores import TaskScores
from runner.evaluation.metrics.generation import Generation
from runner.pipeline.stages.base import Cells


def generation_metrics(task: TaskScores) -> dict[str, float | None]:
    """What is said of a task's generated text; nothing of other tasks."""
    if task.generation is None:
        return {}
    return {
        f"tasks/generated_{name}/{task.task}": value for name, value in _figures(task.generation)
    }


def generation_table(tasks: list[TaskScores]) -> dict[str, Cells]:
    """One line for each task whose answers are generated; no table where none is."""
    lines: list[list[Any]] = []
    columns = ["task"]
    for task in tasks:
        if task.generation is not None:
            figures = dict(_figures(task.generation))
            columns = ["task", *figures]
            lines.append([task.task, *figures.values()])
    return {"tasks/generation": (columns, lines)} if lines else {}


def _figures(found: Generation) -> Iterator[tuple[str, float | None]]:
    yield "tokens", found.tokens
    yield "at_limit", found.at_limit
    yield "empty", found.empty
    yield "loops", found.loops
    yield "unfinished_thinking", found.unfinished_thinking
    change = found.change
    yield "identical", None if change is None else change.identical
    yield "token_agreement", None if change is None else change.token_agreement
    for name in ("common_tokens", "common_share", "length_ratio"):
        interval = None if change is None else getattr(change, name)
        yield name, None if interval is None else interval.estimate
    for name in ("loops", "empty", "unfinished_thinking"):
        yield f"{name}_mcnemar_p", None if change is None else getattr(change, name).p_value
