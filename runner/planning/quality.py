"""The quality cost of a format: as measured here, else as published, else unknown."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from runner.planning.formats import PLANNED_WIDTHS, Format, find_format, integer_format
from runner.planning.model_shape import Shape
from runner.planning.published import MOST_PERPLEXITY_RATIO, figure_for, harsher

_MUCH_LARGER = 4
_FINE = 128
"""Weights of a group; larger ones and whole channels are rounded no better."""


@dataclass(frozen=True)
class MeasuredQuality:
    """Perplexity of a recipe over the unquantized model's, from the store."""

    label: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """A statement, and whether it is a risk."""

    text: str
    source: str
    """``exact``, ``measured``, ``published`` or ``unknown``."""
    risk: bool


_UNKNOWN = Quality(
    "unknown: no figure in the tables; measure it (stages=[quantize,eval])", "unknown", False
)


@functools.lru_cache(maxsize=1024)  # asked for each device and number of them
def quality_of(
    fmt: Format,
    shape: Shape,
    min_recovery_percent: float,
    measured: MeasuredQuality | None,
    published_as: str | None = None,
) -> Quality:
    """The best that is known of a format's quality on a model.

    Args:
        fmt: Any.
        shape: Of the model.
        min_recovery_percent: Accuracy in percent of the model's own, below which it is a risk.
        measured: Of this format on this model.
        published_as: Label of the format in which the model is published.
    """
    if fmt.label == published_as:
        return Quality("as the model is published", "exact", False)
    if fmt.weight_bits >= 16:
        return Quality("unquantized", "exact", False)
    if measured is not None:
        return Quality(
            f"measured here: perplexity x{measured.ratio:.3f} "
            f"[{measured.low:.3f}, {measured.high:.3f}] ({measured.label})",
            "measured",
            measured.low > MOST_PERPLEXITY_RATIO,
        )
    if published_as is not None and find_format(published_as).prior_bits == 4:
        why = f"figures are of models in 16 bits, this one is published as {published_as}"
        return replace(_UNKNOWN, text=f"unknown: {why}")
    own = _published(fmt, shape, min_recovery_percent)
    return own or _concluded(fmt, shape, min_recovery_percent) or _UNKNOWN


def _concluded(fmt: Format, shape: Shape, min_recovery_percent: float) -> Quality | None:
    """What follows from formats that round more coarsely and lose little, or less and lose much."""
    for relation, others, risk in (
        ("worse", _no_better(fmt), False),
        ("better", _no_worse(fmt), True),
    ):
        for other in others:
            found = _published(other, shape, min_recovery_percent)
            if found is not None and found.risk is risk:
                return replace(found, text=f"no {relation} than {other.label}: {found.text}")
    return None


def _published(fmt: Format, shape: Shape, min_recovery_percent: float) -> Quality | None:
    row = figure_for(fmt, shape.parameters)
    if row is None:
        return None
    times = row.parameters / shape.parameters
    small = f"; of a model {times:.0f} times as large, and small ones lose more"
    text = f"{row.text}{small if times > _MUCH_LARGER else ''}"
    return Quality(text, "published", row.is_risk(min_recovery_percent))


def _no_better(fmt: Format) -> Iterator[Format]:
    """Formats that round as coarsely at least, the nearest first."""
    if (name := harsher(fmt)) is not None:
        yield find_format(name)
    yield from _of_widths(fmt, range(int(fmt.weight_bits) - 1, PLANNED_WIDTHS.start - 1, -1))


def _no_worse(fmt: Format) -> Iterator[Format]:
    """Formats that round as finely at least, the nearest first."""
    widths = range(int(fmt.weight_bits), PLANNED_WIDTHS.stop)
    yield from _of_widths(fmt, widths)
    if fmt.group is None or fmt.group > _FINE:
        yield from _of_widths(replace(fmt, group=_FINE), widths)


def _of_widths(fmt: Format, widths: range) -> Iterator[Format]:
    """The same groups of integers of other widths; none of a format of other numbers."""
    if fmt.scheme != f"w{fmt.weight_bits:g}a16":
        return
    for bits in widths:
        yield integer_format(bits, fmt.group, fmt.zero_bits > 0)
