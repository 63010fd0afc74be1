"""Tasks: how many answers stay right."""

from typing import Any

from runner.reporting.page.subject import Subject
from runner.reporting.scores import names_of, score_lines

TITLE = "Tasks"
_MOST = 200
"""Lines shown; the files have all."""


def gather(subject: Subject) -> dict[str, Any] | None:
    """One line a recipe, one column a task and metric."""
    lines = score_lines(subject.records, subject.rows)
    if not lines:
        return None
    return {"names": names_of(lines), "lines": lines[:_MOST], "left_out": len(lines) - _MOST}
