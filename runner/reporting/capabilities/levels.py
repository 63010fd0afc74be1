"""How the unquantized model scores at each level of difficulty, and which levels were asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.evaluation.lm_eval.levels import LevelScore
from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.store.records import BASELINE, RECIPE, RunRecord


@dataclass(frozen=True)
class Levels:
    """A task's levels: of each, right answers of the unquantized model to the pilot items."""

    model: str
    engine: str
    task: str
    pilot: tuple[LevelScore, ...]
    asked: tuple[int, ...]
    """Levels that recipes were asked."""


def levels(records: Sequence[RunRecord]) -> list[Levels]:
    """Every task with levels, of each model in each engine, once."""
    found: dict[tuple[str, str, str, str], Levels] = {}
    for record in records:
        result = record.result(TASKS, BASELINE) or record.result(TASKS, RECIPE)
        for task in result.tasks if result is not None else ():
            if task.pilot:
                asked = tuple(one.level for one in task.levels)
                key = (record.model, record.engine, task.task, str(task.pilot))
                one = Levels(record.model, record.engine, task.task, tuple(task.pilot), asked)
                found.setdefault(key, one)
    return list(found.values())
