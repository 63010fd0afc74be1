"""Prints the Pareto front of a search, and stores it beside the search's records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.evaluation.metrics.front import unbeaten
from runner.evaluation.metrics.statistics import Interval
from runner.multirun.search.objectives import Objective, measured
from runner.multirun.search.state import Chosen, State
from runner.reporting.quality.answered import accuracy_difference
from runner.reporting.quality.paired import (
    divergence_difference,
    log_ratio,
    same_reference,
    why_not,
)
from runner.reporting.rows import Row, rows_of
from runner.store.files import write_json_atomically
from runner.store.records import RunRecord
from runner.util.serialise import to_json
from runner.util.shown import tell

FRONT_FILE = "front.json"


def front_of(
    runs: Sequence[tuple[Chosen, RunRecord | None]], objectives: Sequence[Objective]
) -> list[dict[str, Any]]:
    """The runs that none of the others returned beats, the best in the first objective first.

    A run beats another that it is not worse than in any objective and better than in one. Of
    perplexity, KL divergence and the share of right answers only differences that are shown count,
    where both runs read the same tokens or items; else the values as they are.
    """
    found = [
        _Found(record.run, chosen.point, _row_of(record), values)
        for chosen, record in runs
        if record is not None and (values := measured(record, objectives)) is not None
    ]
    places = sorted(range(len(objectives)), key=lambda place: objectives[place].name in _JUDGED)

    def order(one: _Found) -> list[float]:
        return [_cost(one, objectives[place], place) for place in places]

    def beats(one: _Found, other: _Found) -> bool:
        told = [_compare(one, other, goal, place) for place, goal in enumerate(objectives)]
        return max(told) <= 0 and min(told) < 0

    kept = sorted(
        unbeaten(found, order, beats),
        key=lambda one: [_cost(one, goal, place) for place, goal in enumerate(objectives)],
    )
    names = [one.name for one in objectives]
    return [
        {"run": one.run, "point": one.point, "values": dict(zip(names, one.values, strict=True))}
        for one in kept
    ]


def _row_of(record: RunRecord) -> Row:
    """A finished run's row of the answer."""
    return [row for row in rows_of([record]) if not row.is_floor][-1]


def _cost(one: "_Found", objective: Objective, place: int) -> float:
    return -one.values[place] if objective.maximized else one.values[place]


def _compare(one: "_Found", other: "_Found", objective: Objective, place: int) -> int:
    """-1 where the first is better, 1 where it is worse, 0 where neither is shown."""
    judge = _JUDGED.get(objective.name)
    interval = None if judge is None else judge(one.row, other.row)
    if interval is not None:
        return (interval.low > 0) - (interval.high < 0)
    costs = [_cost(run, objective, place) for run in (one, other)]
    return (costs[0] > costs[1]) - (costs[0] < costs[1])


def _perplexity(one: Row, other: Row) -> Interval | None:
    a, b = one.evaluated, other.evaluated
    return None if a is None or b is None or why_not(a, b) else log_ratio(a, b)


def _divergence(one: Row, other: Row) -> Interval | None:
    a, b = one.evaluated, other.evaluated
    if a is None or b is None or not same_reference(a, b):
        return None
    return divergence_difference(a, b)


def _errors(one: Row, other: Row) -> Interval | None:
    if one.answered is None or other.answered is None:
        return None
    found = accuracy_difference(one.answered, other.answered)
    if found is None:
        return None
    if not found.shown:
        return Interval(0.0, -1.0, 1.0)
    return Interval(-found.interval.estimate, -found.interval.high, -found.interval.low)


_JUDGED = {
    "perplexity": _perplexity,
    "perplexity_ratio": _perplexity,
    "kl_divergence": _divergence,
    "task_accuracy": _errors,
}
"""Objectives whose differences may be noise, as costs: with the interval of the difference."""


@dataclass(frozen=True)
class _Found:
    run: str
    point: dict[str, str]
    row: Row
    values: list[float]


def show_front(
    runs: Sequence[tuple[Chosen, RunRecord | None]],
    objectives: Sequence[Objective],
    state: State,
    repeated: int,
    folder: Path,
) -> None:
    """Write ``front.json`` and print it, with what was passed over."""
    front = front_of(runs, objectives)
    write_json_atomically(
        folder / FRONT_FILE, {"objectives": to_json(list(objectives)), "front": front}
    )
    illegal = sum(one.run is None for one in state.chosen)
    names = ", ".join(one.name for one in objectives)
    tell(
        f"search: {state.runs} runs, {illegal} illegal points and {repeated} repeated ones not "
        f"run; {len(front)} are Pareto-optimal in {names}:"
    )
    for one in front:
        values = ", ".join(f"{name} {value:.6g}" for name, value in one["values"].items())
        tell(f"  {one['run']}: {values}")
    tell(f"as JSON: {folder / FRONT_FILE}")
