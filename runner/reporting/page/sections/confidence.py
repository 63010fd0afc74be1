"""By confidence: whether a recipe changes tokens that the unquantized model is sure of."""

from typing import Any

from runner.reporting.confidence import confidence_lines
from runner.reporting.page.subject import Subject

TITLE = "By the unquantized model's confidence"
_MOST = 200
"""Lines shown; the records have all."""


def gather(subject: Subject) -> dict[str, Any] | None:
    """One line a recipe, one column a bucket of the unquantized model's top probability."""
    lines = confidence_lines(subject.records, subject.rows)
    if not lines:
        return None
    names = [bucket.label for bucket in lines[0].buckets]
    return {"names": names, "lines": lines[:_MOST], "left_out": len(lines) - _MOST}
