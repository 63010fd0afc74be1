"""How answers change when nothing is quantized but the arithmetic varies (``tasks.floor``)."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.evaluation.metrics.paired import McNemar
from runner.reporting.floor_rows import floor_rows
from runner.reporting.quality.floors import answered_floors
from runner.store.records import RunRecord


@dataclass(frozen=True)
class AnswerFloor:
    """One variation's effect on one task."""

    model: str
    engine: str
    variation: str
    """In words: ``bfloat16 against float32``."""
    task: str
    difference: float
    """Of the share of right answers."""
    answers_changed: int | None
    changes: McNemar | None
    """Items lost and gained."""


def answer_floors(records: Sequence[RunRecord]) -> list[AnswerFloor]:
    """Every variation of each model in each engine, once."""
    found: dict[tuple[str, str, str, str], AnswerFloor] = {}
    for record in records:
        floors = answered_floors(record)
        if not floors:
            continue
        names = {row.variation: row.recipe for row in floor_rows(record)}
        for variation, result in floors.items():
            for task in result.tasks:
                if (score := task.main) is None or score.change is None or not task.asked_for:
                    continue
                name = names.get(variation, variation.value)
                change = score.change
                found.setdefault(
                    (record.model, record.engine, name, task.task),
                    AnswerFloor(
                        record.model, record.engine, name, task.task,
                        change.delta, change.answers_changed, change.mcnemar,
                    ),
                )  # fmt: skip
    return list(found.values())
