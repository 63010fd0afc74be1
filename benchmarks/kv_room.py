"""KV cache that engines' own logs state, against what plans predict.

``python -m benchmarks.kv_room [POINTS.csv]`` prints each point, and how far the overhead (what is
neither weights nor cache) lies from what is expected: fitted, and for each group of points
(model, device and engine) by the others.
"""

import csv
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from runner.config.options import option_files, read_option
from runner.config.schema.architecture import Architecture
from runner.config.schema.model import Model
from runner.planning.devices import device_names, read_device
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.planning.room import Devices, Room, Step, kv_room
from runner.planning.room_rules import GIB, rules_of
from runner.util.yaml_files import load

_FOLDER = Path(__file__).parent / "points"
POINTS = _FOLDER / "kv_room.csv"
_COVERED = 0.8
_WEIGHTS_LOGGED = "weights_gibibytes"


@dataclass(frozen=True)
class Logged:
    """A point beside its prediction."""

    row: Mapping[str, str]
    room: Room
    measured: float
    """Bytes of the cache on one device; negative where an engine refused to start."""

    @property
    def error(self) -> float:
        """Predicted less measured, of measured."""
        return (self.room.kv_bytes.expected - self.measured) / abs(self.measured)

    @property
    def overhead(self) -> float:
        """What is neither weights nor cache, in multiples of what is expected."""
        room = self.room
        expected = room.usable - room.weights - room.kv_bytes.expected
        return (room.usable - room.weights - self.measured) / expected

    @property
    def held(self) -> bool:
        """Whether it lies between low and high."""
        return self.room.kv_bytes.low <= self.measured <= self.room.kv_bytes.high

    @property
    def group(self) -> tuple[str, ...]:
        """Points that are no news to each other."""
        return tuple(self.row[name] for name in ("model", "device", "engine"))


def read(path: Path = POINTS) -> Iterator[Logged]:
    """The points of a file, each with its prediction."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield _logged(row)


def shape_of(model: str) -> Shape:
    """A model of ``conf/model``, or of the file beside the points."""
    if model in option_files("model"):
        return Shape(read_option("model", model, Model).architecture)
    stated = load(_FOLDER / "kv_room_models.yaml")[model]
    architecture: Architecture = OmegaConf.to_object(  # type: ignore[assignment]
        OmegaConf.merge(OmegaConf.structured(Architecture), stated)
    )
    return Shape(architecture)


def _logged(row: Mapping[str, str]) -> Logged:
    degree = int(row["tp"])
    device = read_device(row["device"]) if row["device"] in device_names() else None
    visible = float(row["visible_gibibytes"] or (device and device.visible_memory_gibibytes) or 0)
    link = device.interconnect.among(degree) if device else None
    devices = Devices(
        visible * GIB,
        degree,
        switched=link is not None and link.has_switch,
        compute_capability=device.compute_capability if device else None,
    )
    step = Step(
        *(int(row[name]) if row[name] else None for name in ("batched_tokens", "sequences"))
    )
    context = int(row["context"])
    room = kv_room(
        shape_of(row["model"]),
        find_format(row["precision"]),
        devices,
        context,
        utilization=float(row["utilization"]),
        step=step,
        rules=rules_of(row["engine"], row["date"][:7]),
    )
    value = float(row["value"])
    if row["metric"] == "kv_tokens":
        return Logged(row, room, value / context * room.sequence_bytes)
    return Logged(row, room, value * GIB)


def fitted(points: Sequence[Logged]) -> tuple[float, float]:
    """Multiples of the expected overhead that leave a tenth of the points on either side."""
    tenths = statistics.quantiles((point.overhead for point in points), n=10, method="inclusive")
    outside = round((1 - _COVERED) / 2 * 10) - 1
    return tenths[outside], tenths[-1 - outside]


def held_out(points: Sequence[Logged]) -> float:
    """Part of the points that lie in the range which the other groups give."""
    inside = 0
    for point in points:
        low, high = fitted([other for other in points if other.group != point.group])
        inside += low <= point.overhead <= high
    return inside / len(points)


def errors_left_out(points: Sequence[Logged]) -> Iterator[float]:
    """Errors with the overhead that the other groups of the same rules have in the median."""
    for point in points:
        others = [
            other.overhead
            for other in points
            if other.room.rules == point.room.rules and other.group != point.group
        ]
        if others:
            room = point.room
            overhead = room.usable - room.weights - room.kv_bytes.expected
            moved = (statistics.median(others) - 1) * overhead
            yield abs(room.kv_bytes.expected - moved - point.measured) / abs(point.measured)


def report(points: Sequence[Logged]) -> Iterator[str]:
    """The table, and the figures of all points."""
    for point in points:
        row, room = point.row, point.room
        logged = row[_WEIGHTS_LOGGED]
        weights = f"{room.weights / GIB:6.2f} ({logged or '?'})"
        parts = " ".join(
            f"{name}={size / GIB:.2f}"
            for name, size in room.parts.items()
            if size and name != "weights"
        )
        left = room.kv_bytes
        yield (
            f"{row['model']:16} {row['precision']:13} {row['device']:14} x{row['tp']:2} "
            f"{row['engine']:12} weights {weights:15} measured {point.measured / GIB:7.2f} "
            f"predicted {left.low / GIB:7.2f} {left.expected / GIB:7.2f} {left.high / GIB:7.2f} "
            f"GiB {point.error:+7.1%} {'' if point.held else 'OUT'} overhead x{point.overhead:.2f} "
            f"{parts}"
        )
    with_room = [point for point in points if point.measured > 0]
    widths = [
        (point.room.kv_bytes.high - point.room.kv_bytes.low) / 2 / point.room.kv_bytes.expected
        for point in with_room
        if point.room.kv_bytes.expected > 0
    ]
    inside = sum(point.held for point in points) / len(points)
    low, high = fitted(points)
    yield f"{len(points)} points, {len(with_room)} with room for a cache"
    yield f"error of KV bytes: {_tail([abs(point.error) for point in with_room])}"
    yield f"each group by the others: {_tail(list(errors_left_out(with_room)))}"
    yield f"in [low, high]: {inside:.0%}; median half width {statistics.median(widths):.1%}"
    yield (
        f"80% of the overheads lie within {low:.2f} to {high:.2f} of what is expected; of groups "
        f"left out, {held_out(points):.0%}"
    )


def _tail(errors: Sequence[float]) -> str:
    ninth = statistics.quantiles(errors, n=10, method="inclusive")[-1]
    return f"median {statistics.median(errors):.1%}, p90 {ninth:.1%}, worst {max(errors):.1%}"


def main() -> None:
    """Print the report of the file that is named, or of ours."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else POINTS
    for line in report(list(read(path))):
        print(line)


if __name__ == "__main__":
    main()
