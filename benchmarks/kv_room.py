"""KV cache that engines' own logs state, against what plans predict.

``python -m benchmarks.kv_room [POINTS.csv]`` prints each point, and how far the overhead (what is
neither weights nor cache) lies from what is expected: fitted, and for each group of points
(model, device and engine) by the others.
"""

import csv
import re
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from runner.config.options import option_files, read_option
from runner.config.schema.architecture import Architecture
from runner.config.schema.hardware import Hardware
from runner.config.schema.model import Model
from runner.planning.capacity import devices_of
from runner.planning.devices import device_names, read_device
from runner.planning.formats import Format, find_format
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


def room_of(
    row: Mapping[str, str], shape: Shape, fmt: Format, device: Hardware | None, degree: int
) -> Room:
    """What is predicted for a row of ours, or of a file like ``serving.csv``.

    There, ``prompt_tokens`` are the longest sequence, and ``output_tokens`` say
    ``utilization=0.93``, or nothing where it is the engine's default.

    Args:
        row: With the engine, the date and the server's flags.
        shape: Of its model.
        fmt: Of its precision.
        device: Of the table; ``None``: the row says what programs see of its memory.
        degree: Devices that share the model.
    """
    stated = row.get("visible_gibibytes")
    if device is None:
        devices = Devices(float(stated or 0) * GIB, degree)
    else:
        devices = devices_of(device, degree)
        devices = replace(devices, memory=float(stated) * GIB) if stated else devices
    rules = rules_of(row["engine"], row["date"][:7])
    said = re.search(r"utilization=([\d.]+)", row.get("output_tokens", ""))
    return kv_room(
        shape,
        fmt,
        devices,
        int(row.get("context") or row["prompt_tokens"]),
        utilization=float(row.get("utilization") or (said and said[1]) or rules.utilization),
        step=Step(*(int(row.get(name) or 0) or None for name in ("batched_tokens", "sequences"))),
        rules=rules,
    )


def _logged(row: Mapping[str, str]) -> Logged:
    device = read_device(row["device"]) if row["device"] in device_names() else None
    fmt = find_format(row["precision"])
    room = room_of(row, shape_of(row["model"]), fmt, device, int(row["tp"]))
    value = float(row["value"])
    if row["metric"] == "kv_tokens":
        return Logged(row, room, value * room.token_bytes)
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
