"""What papers and model cards say of the quality of formats, from a table."""

import csv
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from runner.planning.formats import Format

_TABLE = Path(__file__).parent / "published_quality.csv"
_MOST_DIVERGENCE = 0.1
MOST_PERPLEXITY_RATIO = 1.05


class Measure(Enum):
    """What a figure says of a format."""

    recovery = "recovery"
    divergence = "divergence"
    perplexity = "perplexity"
    no_worse_than = "no_worse_than"


@dataclass(frozen=True)
class Published:
    """A row of the table."""

    format: str
    group: int | None
    parameters: float
    model: str
    measure: Measure
    values: tuple[str, ...]
    on: str
    source: str
    address: str

    @property
    def text(self) -> str:
        """The figure with its model and source."""
        figures = " and ".join(f"{float(value):g}" for value in self.values)
        about = f"({self.model}, {self.source})"
        if self.measure is Measure.recovery:
            percents = f"{figures.replace(' and', '% and')}%"
            return f"published: keeps {percents} of accuracy on {self.on} {about}"
        if self.measure is Measure.divergence:
            return f"published: mean KL divergence {figures} nats {about}"
        return f"published: perplexity x{float(self.values[0]):.3f} on {self.on} {about}"

    def is_risk(self, min_recovery_percent: float) -> bool:
        """Whether the loss is larger than what is accepted."""
        values = [float(value) for value in self.values]
        if self.measure is Measure.recovery:
            return min(values) < min_recovery_percent
        if self.measure is Measure.divergence:
            return max(values) > _MOST_DIVERGENCE
        return max(values) > MOST_PERPLEXITY_RATIO


@functools.cache
def table() -> tuple[Published, ...]:
    """All rows."""
    lines = (line for line in _TABLE.read_text("utf-8").splitlines() if not line.startswith("#"))
    return tuple(
        Published(
            format=row["format"],
            group=int(row["group"]) if row["group"] else None,
            parameters=float(row["parameters"] or 0),
            model=row["model"],
            measure=Measure(row["measure"]),
            values=tuple(row["values"].split()),
            on=row["on"],
            source=row["source"],
            address=row["address"],
        )
        for row in csv.DictReader(lines)
    )


def figure_for(fmt: Format, parameters: float) -> Published | None:
    """The figure of a format on the model nearest in size; ``None`` where there is none."""
    return _nearest(
        (
            row
            for row in table()
            if row.format == (fmt.scheme or fmt.label)
            and row.measure is not Measure.no_worse_than
            and (row.group is None or (fmt.group is not None and fmt.group <= row.group))
        ),
        parameters,
    )


def harsher(fmt: Format) -> str | None:
    """Scheme of a format that rounds weights as finely, and activations too; ``None``: none."""
    name = fmt.scheme or fmt.label
    rows = (r for r in table() if r.measure is Measure.no_worse_than and r.format == name)
    return next((row.values[0] for row in rows), None)


def _nearest(rows: Iterable[Published], parameters: float) -> Published | None:
    """Of the model nearest in size; of equally near ones that of the finest groups."""
    return min(
        rows,
        key=lambda row: (
            abs(math.log(parameters / row.parameters)),
            row.group if row.group is not None else math.inf,
        ),
        default=None,
    )
