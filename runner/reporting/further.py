"""Headline figures of stages without fields of their own in a row: plug-ins' stages."""

from runner.errors import UsageError
from runner.pipeline.stages import find_stage
from runner.store.records import RunRecord


def further_metrics(record: RunRecord, subject: str) -> dict[str, float]:
    """What stages of a run declare to be headlines, by name, of one of its subjects."""
    found: dict[str, float] = {}
    for entry in record.stages:
        if entry.subject != subject:
            continue
        try:
            stage = find_stage(entry.stage)
        except UsageError:  # of a plug-in that is not here any more
            continue
        result = record.read(entry, stage) if stage.headline else None
        if result is not None:
            metrics = stage.metrics(result)
            found |= {
                name: value for name in stage.headline if (value := metrics.get(name)) is not None
            }
    return found
