"""Generated text by recipe and task, of every run that has any."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config.schema.floor import Variation
from runner.evaluation.lm_eval.scores import TaskScores
from runner.evaluation.metrics.generation import Generation
from runner.evaluation.metrics.paired import McNemar
from runner.evaluation.metrics.statistics import Interval
from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.pipeline.stages.tasks import TasksResult
from runner.planning.result import PlanResult
from runner.reporting.quality.evaluated import seed_of
from runner.reporting.quality.floors import answered_floors
from runner.reporting.right_answers import (
    RightAnswerPrice,
    plan_of,
    recipe_in_plan,
    right_answer_price,
)
from runner.reporting.rows import Row
from runner.store.records import BASELINE, RECIPE, RunRecord

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Line:
    """One recipe's answers to one task; ``row`` is its place among the answer's rows."""

    row: int
    recipe: str
    engine: str
    task: str
    generation: Generation
    price: RightAnswerPrice | None


COLUMNS = (
    "recipe", "engine", "task", "items", "tokens", "same text", "tokens in common",
    "per-token agreement", "length ratio", "loops", "unfinished thoughts", "empty", "at limit",
    "$ per 1000 right",
)  # fmt: skip
WORDS = ("recipe", "engine", "task")
"""Those that hold words."""
_DISPENSABLE = {"unfinished thoughts": "0.0%", "empty": "0.0%", "$ per 1000 right": ""}
"""Those that a table goes without where every line says this."""
_LAST_TOLD = ("at limit", "tokens", "items", "length ratio", "same text", "task")
"""Columns that a narrow terminal goes without, in this order; the files have them all."""
_NOTE = (
    "Against the unquantized model's greedy answers to the same items: tokens before the first "
    "that differs, and how likely a token is the same where all before it are. In brackets 95% "
    "intervals over items, and McNemar's p where answers that loop, end within a thought or are "
    "empty are others than before."
)
_PRICE = " The price of 1000 right answers is predicted, by the plan."


def generation_lines(records: Sequence[RunRecord], rows: Sequence[Row]) -> list[Line]:
    """A line for each task with generated answers of each row; one a draw where it has several.

    The noise floor's rows tell how much text changes where nothing is quantized.
    """
    by_run = {(record.sweep, record.run): record for record in records}
    lines = []
    for number, row in enumerate(rows):
        if row.is_floor:
            if any(_place(other) == _place(row) for other in rows[number + 1 :]):
                continue  # Of an evaluation's row and one of answers, the latter.
            of_sweep = [r for r in records if (r.sweep, r.model, r.engine) == _place(row)[:3]]
            varied = [(r, f) for r in of_sweep if (f := _varied(r, row)) is not None]
            for record, result in varied[:1]:
                lines += _lines(number, row, row.recipe, record=record, result=result, plan=None)
            continue
        if row.is_baseline:
            same = [r for r in records if (r.model, r.engine) == (row.model, row.engine)]
            found = [(r, f) for r in same if (f := r.result(TASKS, BASELINE)) is not None]
            for record, result in found[:1]:
                plan = plan_of(records, record)
                lines += _lines(number, row, row.recipe, record=record, result=result, plan=plan)
            continue
        several = (row.seeds or 1) > 1
        for run in (row.runs or "").split() if several else [row.run or ""]:
            own = by_run.get((row.sweep or "", run))
            if own is not None and (asked := own.result(TASKS, RECIPE)) is not None:
                name = f"{row.recipe}, seed {seed_of(own)}" if several else row.recipe
                plan = plan_of(records, own)
                lines += _lines(number, row, name, record=own, result=asked, plan=plan)
    return lines


def _place(row: Row) -> tuple[str | None, str, str, Variation | None]:
    """What a floor's rows of one variation have in common, and no other row has."""
    return row.sweep, row.model, row.engine, row.variation


def _varied(record: RunRecord, row: Row) -> TasksResult | None:
    """The unquantized model's answers with its arithmetic varied as the row says."""
    return None if row.variation is None else answered_floors(record).get(row.variation)


def table_of(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Names of the columns that have something to say, and each line's cells."""
    told = [dict(zip(COLUMNS, cells(line), strict=True)) for line in lines]
    names = [
        name
        for name in COLUMNS
        if any(line[name] != _DISPENSABLE.get(name) for line in told)
        and (name != "engine" or len({line[name] for line in told}) > 1)
    ]
    return names, [[line[name] for name in names] for line in told]


def note_of(lines: Sequence[Line]) -> str:
    """What is to be known to read the table."""
    return _NOTE + _PRICE * any(line.price is not None for line in lines)


def show_generation(lines: Sequence[Line], console: "Console") -> None:
    """Print the lines of a model; nothing where there is none."""
    from rich.table import Table

    if not lines:
        return
    names, found = table_of(lines)
    # Two lines a title, so that a terminal has room for the figures.
    titles = {name: name if name in WORDS else name.replace(" ", "\n", 1) for name in names}
    wide = {
        name: max(map(len, (*titles[name].split("\n"), *column)))
        for name, column in zip(names, zip(*found, strict=True), strict=True)
    }
    for name in _LAST_TOLD:
        if sum(wide.values()) + 2 * len(wide) > console.width:
            wide.pop(name, None)
    console.print("\ngenerated text, against the unquantized model's", style="bold")
    table = Table(box=None)
    for name in wide:
        table.add_column(titles[name], justify="left" if name in WORDS else "right", no_wrap=True)
    for line in found:
        table.add_row(*(line[names.index(name)] for name in wide))
    console.print(table)
    console.print(note_of(lines), soft_wrap=not console.is_terminal)


def cells(line: Line) -> list[str]:
    """A line's cells, one for each of ``COLUMNS``; empty where it is not known."""
    found, change = line.generation, line.generation.change
    return [
        line.recipe,
        line.engine,
        line.task,
        str(found.answers),
        f"{found.tokens:.1f}",
        f"{change.identical:.1%}" if change is not None else "",
        _interval(change.common_tokens if change is not None else None, 1),
        f"{change.token_agreement:.4f}"
        if change is not None and change.token_agreement is not None
        else "",
        _interval(change.length_ratio if change is not None else None, 3),
        _share(found.loops, change.loops if change else None),
        _share(found.unfinished_thinking, change.unfinished_thinking if change else None),
        _share(found.empty, change.empty if change else None),
        "" if found.at_limit is None else f"{found.at_limit:.1%}",
        "" if line.price is None else f"{1000 * line.price.dollars:.2g} ({line.price.device})",
    ]


def _lines(
    number: int,
    row: Row,
    name: str,
    *,
    record: RunRecord,
    result: TasksResult,
    plan: PlanResult | None,
) -> list[Line]:
    label = recipe_in_plan(record, is_baseline=row.is_baseline)
    return [
        Line(
            number,
            name,
            row.engine,
            task.task,
            task.generation,
            right_answer_price(plan, label, task.generation, _accuracy(task)),
        )
        for task in result.tasks
        if task.generation is not None
    ]


def _accuracy(task: TaskScores) -> float | None:
    return None if task.main is None else task.main.value


def _interval(found: Interval | None, digits: int) -> str:
    if found is None:
        return ""
    form = f"z.{digits}f"
    return f"{found.estimate:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _share(share: float, test: McNemar | None) -> str:
    changed = test is not None and test.lost + test.gained > 0
    return f"{share:.1%}" + (f" (p = {test.p_value:.2g})" if test is not None and changed else "")
