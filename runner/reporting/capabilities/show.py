"""Prints what recipes lose on tasks, and writes it as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.evaluation.lm_eval.levels import LevelScore
from runner.evaluation.metrics.statistics import Interval
from runner.reporting.capabilities.floors import AnswerFloor, answer_floors
from runner.reporting.capabilities.foretold import foretold
from runner.reporting.capabilities.levels import Levels, levels
from runner.reporting.capabilities.losses import Loss, losses
from runner.store.records import RunRecord
from runner.util.shown import escaped

if TYPE_CHECKING:
    from rich.console import Console

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Lines below a head, with a title and what is to be known to read them."""

    title: str
    head: Cells
    lines: list[Cells]
    note: str = ""


_LOSSES = "change of right answers, in points, against the unquantized model on the same items"
_LEVELS = "unquantized model by level of difficulty (right answers of pilot items)"
_FORETOLD = "does KL divergence rank recipes as their losses do? (Spearman's correlation)"
_NOTE = (
    "± is half of a 95% interval that holds for all of these differences together; * marks a "
    "difference that the interval and McNemar's exact test (Holm's correction) show and that is "
    "above the noise floor, ~ one that arithmetic alone may make (tasks.floor)."
)


def show_capabilities(records: Sequence[RunRecord], console: "Console") -> None:
    """Print what the records of a model have; nothing where no recipe was asked tasks."""
    from rich.table import Table as Printed

    for table in tables(records):
        console.print(f"\n{table.title}", style="bold")
        printed = Printed(box=None)
        for place, name in enumerate(table.head):
            printed.add_column(name, justify="left" if not place else "right")
        for line in table.lines:
            printed.add_row(*line)
        console.print(printed)
        if table.note:
            console.print(table.note, soft_wrap=not console.is_terminal)


def capabilities_markdown(records: Sequence[RunRecord]) -> list[str]:
    """The same, as lines of Markdown."""
    parts: list[str] = []
    for table in tables(records):
        rows = [table.head, (":--", *["--:"] * (len(table.head) - 1)), *table.lines]
        parts += ["", f"{table.title[:1].upper()}{table.title[1:]}:", ""]
        parts += [f"| {' | '.join(map(escaped, cells))} |" for cells in rows]
        parts += ["", escaped(table.note), ""] if table.note else [""]
    return parts


def tables(records: Sequence[RunRecord]) -> list[Table]:
    """Levels, losses, and whether KL divergence foretells them, as far as the records have any."""
    parts: list[Table] = []
    of_levels, found = levels(records), losses(records)
    places = {(one.model, one.engine) for one in of_levels}
    engines = len(places | {(one.model, one.engine) for one in found}) > 1
    if of_levels:
        parts.append(
            Table(
                _LEVELS,
                ("task", "level: right/items"),
                _level_lines(of_levels, engines),
                "Levels in [brackets] are asked of every recipe.",
            )
        )
    if found:
        floors = answer_floors(records)
        head, lines = _loss_lines(found, floors, engines)
        parts.append(Table(_LOSSES, head, lines, _note(found, floors)))
    correlations = [one for one in foretold(found) if one.correlation is not None]
    if correlations:
        lines = [
            (_named(one.task, one.engine, engines), str(one.recipes), _interval(one.correlation),
             one.verdict)
            for one in correlations
        ]  # fmt: skip
        parts.append(Table(_FORETOLD, ("task", "recipes", "correlation [95%]", ""), lines))
    return parts


def _level_lines(found: Sequence[Levels], engines: bool) -> list[Cells]:
    return [
        (
            _named(one.task, one.engine, engines),
            "  ".join(_level(score, score.level in one.asked) for score in one.pilot),
        )
        for one in found
    ]


def _level(score: LevelScore, asked: bool) -> str:
    label = f"{score.level}: " + (f"{score.right}/{score.items}" if score.fits else "too long")
    return f"[{label}]" if asked else label


def _note(found: Sequence[Loss], floors: Sequence[AnswerFloor]) -> str:
    counts = sorted({one.items for one in found})
    items = f"{counts[0]} items each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} items"
    changed = " Of a floor: how many answers are others." if floors else ""
    return f"Shares of {items}. {_NOTE}{changed}"


def _loss_lines(
    found: Sequence[Loss], floors: Sequence[AnswerFloor], engines: bool
) -> tuple[Cells, list[Cells]]:
    """One line a recipe, one column a task; the unquantized model's shares and its floor first."""
    tasks = list(dict.fromkeys(one.task for one in found))
    divergences = {one.kl_divergence for one in found} != {None}
    lines: list[Cells] = []

    def line(name: str, engine: str, cells: Mapping[str, str], kl: float | None = None) -> None:
        divergence = ("" if kl is None else f"{kl:.4f}",) if divergences else ()
        own = (cells.get(task, "") for task in tasks)
        lines.append((_named(name, engine, engines), *divergence, *own))

    for engine in dict.fromkeys(one.engine for one in found):
        own = [one for one in found if one.engine == engine]
        base = {one.task: f"{one.unquantized:.3f}" for one in own}
        line("unquantized", engine, base)
        varied = [one for one in floors if one.engine == engine]
        for variation in dict.fromkeys(one.variation for one in varied):
            cells = {one.task: _noise(one) for one in varied if one.variation == variation}
            line(f"floor: {variation}", engine, cells)
        for recipe in dict.fromkeys(one.recipe for one in own):
            losses_of = [one for one in own if one.recipe == recipe]
            cells = {one.task: _change(one) for one in losses_of}
            line(recipe, engine, cells, losses_of[0].kl_divergence)
    return ("recipe", *(("KL, nats",) if divergences else ()), *tasks), lines


def _change(loss: Loss) -> str:
    half = (loss.difference.high - loss.difference.low) / 2
    mark = "*" if loss.shown else "~" if loss.within_floor else ""
    return f"{100 * loss.difference.estimate:+z.0f} ± {100 * half:.0f}{mark}"


def _noise(floor: AnswerFloor) -> str:
    changed = "" if floor.answers_changed is None else f" ({floor.answers_changed})"
    return f"{100 * floor.difference:+z.0f}{changed}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{interval.estimate:+z.2f} [{interval.low:+z.2f}, {interval.high:+z.2f}]"


def _named(name: str, engine: str, engines: bool) -> str:
    return f"{name} on {engine}" if engines else name
