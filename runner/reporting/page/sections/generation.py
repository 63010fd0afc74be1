"""Generated text: how far it is the unquantized model's, and whether it comes to an end."""

from typing import Any

from runner.reporting.generation import WORDS, generation_lines, note_of, table_of
from runner.reporting.page.subject import Subject

TITLE = "Generated text"
_MOST = 200
"""Lines shown; the records have all."""


def gather(subject: Subject) -> dict[str, Any] | None:
    """One line a recipe and task."""
    lines = generation_lines(subject.records, subject.rows)
    if not lines:
        return None
    names, found = table_of(lines[:_MOST])
    return {
        "columns": names,
        "words": WORDS,
        "lines": found,
        "note": note_of(lines),
        "left_out": len(lines) - _MOST,
    }
