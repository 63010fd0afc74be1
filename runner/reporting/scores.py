"""Task scores by recipe, of every run that has any."""

from dataclasses import dataclass, field

from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.pipeline.stages.tasks import TasksResult
from runner.reporting.quality.evaluated import seed_of
from runner.reporting.quality.floors import answered_floors
from runner.reporting.rows import Row
from runner.store.records import BASELINE, RunRecord


@dataclass
class Cell:
    """One recipe's score on one task."""

    value: float
    standard_error: float | None
    delta: float | None = None
    """Against the unquantized model on the same items."""
    recovery_percent: float | None = None
    p_value: float | None = None
    """McNemar's, that both are equally often right; ``None`` where answers are no yes or no."""
    changed: int | None = None
    """Items with another answer than the unquantized model's."""
    lost: int | None = None
    gained: int | None = None


@dataclass
class Line:
    """One recipe's scores; ``row`` is its place among the answer's rows."""

    row: int
    recipe: str
    engine: str
    cells: dict[str, Cell] = field(default_factory=dict)
    """By ``metric/task``."""


def score_lines(records: list[RunRecord], rows: list[Row]) -> list[Line]:
    """A line for each row of the answer that has scores; one a draw where it has several."""
    by_run = {record.run: record for record in records}
    lines = []
    for number, row in enumerate(rows):
        if row.is_baseline:
            sources = [r for r in records if (r.model, r.engine) == (row.model, row.engine)]
            found = [f for r in sources if (f := r.result(TASKS, BASELINE)) is not None]
            lines += [Line(number, row.recipe, row.engine, _cells(one)) for one in found[:1]]
            continue
        if row.is_floor:
            of_sweep = [r for r in records if (r.sweep, r.model, r.engine) == _where(row)]
            found = [f for r in of_sweep if (f := _varied(r, row)) is not None]
            lines += [Line(number, row.recipe, row.engine, _cells(one)) for one in found[:1]]
            continue
        several = (row.seeds or 1) > 1
        for run in (row.runs or "").split() if several else [row.run or ""]:
            record = by_run.get(run)
            if record is not None and (own := record.result(TASKS)):
                name = f"{row.recipe}, seed {seed_of(record)}" if several else row.recipe
                lines.append(Line(number, name, row.engine, _cells(own)))
    # Of tasks without a score there is nothing to show.
    return lines if names_of(lines) else []


def _where(row: Row) -> tuple[str | None, str, str]:
    return row.sweep, row.model, row.engine


def _varied(record: RunRecord, row: Row) -> TasksResult | None:
    """A floor's answers, where the row has them."""
    if row.task_accuracy is None or row.variation is None:
        return None
    return answered_floors(record).get(row.variation)


def names_of(lines: list[Line]) -> list[str]:
    """``metric/task`` of every score, in the order of their first appearance."""
    return list(dict.fromkeys(name for line in lines for name in line.cells))


def _cells(tasks: TasksResult) -> dict[str, Cell]:
    cells = {}
    for task in tasks.tasks:
        for score in task.scores:
            change = score.change
            tested = None if change is None else change.mcnemar
            cells[f"{score.name}/{task.task}"] = Cell(
                value=score.value,
                standard_error=score.standard_error,
                delta=None if change is None else change.delta,
                recovery_percent=None if change is None else change.recovery_percent,
                p_value=None if tested is None else tested.p_value,
                changed=None if change is None else change.answers_changed,
                lost=None if tested is None else tested.lost,
                gained=None if tested is None else tested.gained,
            )
    return cells
