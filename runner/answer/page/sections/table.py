"""Every run as a row of a table that sorts."""

from typing import Any

from runner.answer.page.columns import columns_of
from runner.answer.page.subject import Subject

TITLE = "All runs"


def gather(subject: Subject) -> dict[str, Any] | None:
    """The columns; the rows are the page's own."""
    return {"columns": columns_of(subject.rows)} if subject.rows else None
