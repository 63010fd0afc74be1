"""The front of a search: printed, and filed beside its records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.metrics.front import non_dominated
from runner.search.objectives import Objective, measured
from runner.search.state import Chosen, State
from runner.serialise import to_json
from runner.store.files import write_json_atomically
from runner.store.records import RunRecord

FRONT_FILE = "front.json"


def front_of(
    runs: Sequence[tuple[Chosen, RunRecord | None]], objectives: Sequence[Objective]
) -> list[dict[str, Any]]:
    """The runs that no other is better than in every objective, the best in the first one first."""
    found = [
        (chosen, record, values)
        for chosen, record in runs
        if record is not None and (values := measured(record, objectives)) is not None
    ]
    signs = [-1.0 if one.maximized else 1.0 for one in objectives]
    costs = [[s * v for s, v in zip(signs, values, strict=True)] for _, _, values in found]
    names = [one.name for one in objectives]
    kept = sorted(
        (cost, record.run, chosen.point, dict(zip(names, values, strict=True)))
        for cost, (chosen, record, values), best in zip(
            costs, found, non_dominated(costs), strict=True
        )
        if best
    )
    return [{"run": run, "point": point, "values": values} for _, run, point, values in kept]


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
    print(
        f"search: {state.runs} runs, {illegal} illegal points and {repeated} repeated ones not "
        f"run; {len(front)} are best in {names}:"
    )
    for one in front:
        values = ", ".join(f"{name} {value:.6g}" for name, value in one["values"].items())
        print(f"  {one['run']}: {values}")
    print(f"as JSON: {folder / FRONT_FILE}")
