"""Pairs the runs of two sides, and lists what differs between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.planning.hardware.detect import kind_of
from runner.reporting.compare.base import base_figures, base_note
from runner.reporting.compare.figure import Figure
from runner.reporting.compare.figures import figures
from runner.reporting.compare.find import Side
from runner.reporting.compare.quality import nothing_in_common
from runner.reporting.flatten import flatten
from runner.store.distinct_names import tell_apart
from runner.store.records import RunRecord


@dataclass(frozen=True)
class Difference:
    """A field that is not the same on both sides; ``None`` where a side lacks it."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Pair:
    """Two runs, or one that has no partner."""

    a: str | None
    b: str | None
    label: str
    statuses: tuple[str | None, str | None]
    figures: list[Figure]
    differences: list[Difference]
    """In configuration, versions and host."""
    note: str | None = None
    """What of the two cannot be compared at all, and why."""
    base: list[Figure] = field(default_factory=list)
    """The unquantized model's own, in both runs."""
    base_note: str | None = None
    """Whether it changed, in words."""


def pair_up(a: Side, b: Side, *, allow_different_dtypes: bool = False) -> list[Pair]:
    """Runs of equal model, recipe and engine together; single runs with each other.

    With ``allow_different_dtypes`` quality is compared although it was computed in different types.
    """
    if len(a.records) == 1 and len(b.records) == 1:
        return [_pair(a.records[0], b.records[0], allow_different_dtypes)]
    # What one side calls alike it must not mix up; both sides' may lie in different places.
    of_a, of_b = tell_apart(a.records), tell_apart(b.records)
    names = [
        name
        for name in _TOLD_WHERE_SEVERAL
        if any(len({name(record) for record in side}) > 1 for side in (of_a, of_b))
    ]
    left = {_identity(record, names): record for record in of_b}
    pairs = []
    for record in of_a:
        partner = left.pop(_identity(record, names), None)
        pairs.append(_pair(record, partner, allow_different_dtypes))
    return pairs + [_pair(None, record, allow_different_dtypes) for record in left.values()]


def _text(record: RunRecord) -> str:
    return str(record.config.get("eval", {}).get("text", {}).get("name"))


def _eval_dtype(record: RunRecord) -> str:
    return str(record.config.get("eval", {}).get("dtype"))


_TOLD_WHERE_SEVERAL = (_text, _eval_dtype)
"""What tells runs of a sweep apart only where a sweep has several of it."""


def _identity(record: RunRecord, told: Sequence[Callable[[RunRecord], str]]) -> tuple[str, ...]:
    calibration = record.config.get("calibration", {})
    return (
        record.model,
        record.label,
        record.engine,
        str(record.config.get("hardware", {}).get("name")),
        str(calibration.get("name")),
        str(calibration.get("samples")),
        str(calibration.get("seed")),
        *(name(record) for name in told),
    )


def _pair(a: RunRecord | None, b: RunRecord | None, allow_different_dtypes: bool) -> Pair:
    base = list(base_figures(a, b)) if a is not None and b is not None else []
    labels = list(dict.fromkeys(f"{r.label} on {r.engine}" for r in (a, b) if r is not None))
    return Pair(
        a=a.run if a else None,
        b=b.run if b else None,
        label=" → ".join(labels),
        statuses=(a.status.value if a else None, b.status.value if b else None),
        figures=list(figures(a, b, allow_different_dtypes=allow_different_dtypes))
        if a is not None and b is not None
        else [],
        differences=_differences(a, b) if a is not None and b is not None else [],
        note=nothing_in_common(a, b) if a is not None and b is not None else None,
        base=base,
        base_note=base_note(a, b, base) if a is not None and b is not None else None,
    )


def _differences(a: RunRecord, b: RunRecord) -> list[Difference]:
    one, other = _described(a), _described(b)
    names = dict.fromkeys([*one, *other])
    return [
        Difference(name, one.get(name), other.get(name))
        for name in names
        if one.get(name) != other.get(name)
    ]


def _described(record: RunRecord) -> dict[str, Any]:
    versions = {
        f"version of {name}": version
        for versions in (record.versions, *(entry.versions for entry in record.stages))
        for name, version in versions.items()
    }
    host = {f"host.{name}": value for name, value in kind_of(record.host).items()}
    return flatten(record.config) | versions | host
