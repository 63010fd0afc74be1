"""What a gate holds against what."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.schema.gate import BASE, Gate
from runner.errors import UsageError
from runner.reporting.compare.find import Side
from runner.reporting.draws import by_recipe
from runner.reporting.gate.measures import Sided
from runner.reporting.quality.paired import why_not
from runner.reporting.row import Row
from runner.reporting.rows import rows_of
from runner.store.distinct_names import tell_apart
from runner.store.records import RunRecord, Status


@dataclass(frozen=True)
class Opposed:
    """A candidate, and what it is held against; ``None`` where there is nothing of the kind."""

    name: str
    candidate: Sided
    other: Sided | None
    other_name: str
    reason: str | None = None
    """Why there is nothing."""


def opposed(asked: Gate, side: Side, against: Side | None) -> list[Opposed]:
    """Every recipe of a side with its opposite.

    Args:
        asked: What the gate is told.
        side: The candidates.
        against: Of what was released before; ``None`` for the unquantized model.

    Raises:
        UsageError: A side has no recipe.
    """
    candidates, bases = _sides(side)
    if not candidates:
        raise UsageError(f"gate: {side.name} has no quantized run to release")
    if against is None:
        return [_to_base(one, bases) for one in candidates]
    others, _ = _sides(against)
    if not others:
        raise UsageError(
            f"gate: {against.name} has no quantized run to hold a candidate against; "
            f"gate.against={BASE} is the unquantized model"
        )
    if len(others) == 1:
        only = others[0]
        return [Opposed(_name(one), one, only, _name(only)) for one in candidates]
    known = {_identity(one.row): one for one in others}
    found = []
    for one in candidates:
        other = known.get(_identity(one.row))
        reason = None if other else f"{against.name} has no run of {one.row.recipe}"
        found.append(
            Opposed(_name(one), one, other, _name(other) if other else against.name, reason)
        )
    return found


def followed_by(tracker: str, pairs: Sequence[Opposed]) -> list[RunRecord]:
    """The candidates' runs that a tracker was told of: what it may be told passed the gate."""
    return [
        record
        for pair in pairs
        for record in pair.candidate.records
        if (record.config.get("tracker") or {}).get("name") == tracker
    ]


def _sides(side: Side) -> tuple[list[Sided], list[Row]]:
    """The recipes, and the unquantized models that were measured beside them."""
    records = tell_apart(side.records)
    rows = rows_of(records)
    of_run = {draws.records[0].run: tuple(draws.records) for draws in by_recipe(records)}
    recipes = [
        Sided(row, of_run[row.run])
        for row in rows
        if not row.is_baseline
        and not row.is_floor
        and row.run in of_run
        and row.status != Status.skipped.value  # a combination that there is none of
    ]
    return recipes, [row for row in rows if row.is_baseline]


def _to_base(one: Sided, bases: list[Row]) -> Opposed:
    row = one.row
    alike = [base for base in bases if (base.model, base.engine) == (row.model, row.engine)]
    own = row.evaluated
    paired = [
        base
        for base in alike
        if own is None or base.evaluated is None or why_not(own, base.evaluated) is None
    ]
    chosen = next(iter(paired or alike), None)
    if chosen is None:
        reason = "the unquantized model was not measured in the same run"
        return Opposed(_name(one), one, None, BASE, reason)
    return Opposed(_name(one), one, Sided(chosen, one.records), f"{BASE} ({row.model})")


def _name(one: Sided) -> str:
    return f"{one.row.sweep}/{one.row.run}"


def _identity(row: Row) -> tuple[str | None, ...]:
    return row.model, row.recipe, row.engine, row.text
