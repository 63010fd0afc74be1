"""What recipes lose on tasks, task by task, and whether KL divergence foretells it."""

from typing import Any

from runner.reporting.capabilities.show import tables
from runner.reporting.page.subject import Subject

TITLE = "Capabilities"


def gather(subject: Subject) -> dict[str, Any] | None:
    """The tables of each model."""
    models = dict.fromkeys(record.model for record in subject.records)
    found = {
        model: tables([record for record in subject.records if record.model == model])
        for model in models
    }
    parts = [
        {
            "model": model if len(models) > 1 else "",
            "title": one.title[:1].upper() + one.title[1:],
            "head": one.head,
            "lines": one.lines,
            "note": one.note,
        }
        for model, several in found.items()
        for one in several
    ]
    return {"parts": parts} if parts else None
