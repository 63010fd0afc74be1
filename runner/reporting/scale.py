"""How far losses of a small model speak for large ones, by what is published."""

from collections.abc import Sequence

from runner.planning.published import Measure, table
from runner.reporting.row import Row
from runner.store.records import Status

_SMALL_PARAMETERS = 1e9
"""Below every size for which 4 bits are published to keep most of a model's accuracy."""
_FORMAT, _MOST_BITS = "w4a16", 5.0
"""What the figures are of, and bits per weight up to which a row is taken for such a format."""
_LARGE_PARAMETERS = 8.03e9


def small_model_note(rows: Sequence[Row]) -> list[str]:
    """A sentence on models larger than the rows', where that is small and has rows of 4 bits.

    Args:
        rows: Of one model.
    """
    few = [row for row in rows if (row.bits_per_weight or 16.0) <= _MOST_BITS]
    sizes = [size for row in few if (size := parameters_of(row)) is not None]
    if not sizes or min(sizes) >= _SMALL_PARAMETERS:
        return []
    size = min(sizes)
    first, *more = (
        (_percents(row.values), row.model)
        for row in sorted(table(), key=lambda one: one.parameters)
        if row.format == _FORMAT and row.measure is Measure.recovery
        if row.parameters <= _LARGE_PARAMETERS
    )
    told = [
        f"{first[0]} of task accuracy for {first[1]}",
        *(f"{kept} for {of}" for kept, of in more),
    ]
    return [
        f"Small models lose most. This one has about {size / 1e6:.3g} million parameters; 4 bits "
        f"are published to keep {', '.join(told[:-1])} and {told[-1]}."
    ]


def parameters_of(row: Row) -> float | None:
    """How many a checkpoint has, from its size; ``None`` where that was not measured."""
    if row.status != Status.ok.value or not row.bits_per_parameter or not row.checkpoint_bytes:
        return None
    return row.checkpoint_bytes * 8 / row.bits_per_parameter


def _percents(values: Sequence[str]) -> str:
    numbers = sorted(round(float(value)) for value in values)
    ends = dict.fromkeys([numbers[0], numbers[-1]])
    return " to ".join(map(str, ends)) + "%"
