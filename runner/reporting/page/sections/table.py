"""Sortable table of all runs."""

from typing import Any

from runner.reporting.notes import SAME_SPEED, quality_notes
from runner.reporting.page.columns import columns_of
from runner.reporting.page.subject import Subject

TITLE = "All runs"


def gather(subject: Subject) -> dict[str, Any]:
    """The columns, and what stands behind them; the rows are the page's own."""
    notes = []
    models = list(dict.fromkeys(row.model for row in subject.rows))
    for model in models:
        of_model = [row for row in subject.rows if row.model == model]
        where = f"{model}: " if len(models) > 1 else ""
        notes += [f"{where}{note}" for note in quality_notes(of_model)]
    if any(row.decode_within_noise and not row.is_baseline for row in subject.rows):
        notes.append(SAME_SPEED)
    return {"columns": columns_of(subject.rows), "notes": notes}
