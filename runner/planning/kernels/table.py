"""Tables of what kernels reach, and the row that fits a device and an engine best.

Rows are measured on some devices; another one of the same generation takes over their shares of its
own limits, the one with the nearest bandwidth first. Columns and sources: docs/plan.md.
"""

import csv
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from runner.config.schema.hardware import Hardware

_TABLES = Path(__file__).parent / "tables"
_SIMILAR = {
    "Ampere GDDR": "Ada GDDR",
    "Ada GDDR": "Ampere GDDR",
    "Turing GDDR": "Ada GDDR",
    "Volta HBM": "Ampere HBM",
    "Blackwell LPDDR": "Blackwell GDDR",
    "PCIe3": "PCIe4",
    "PCIe6": "PCIe5",
}
"""Generations of devices or links of the nearest kind, where a table has nothing of one."""
ANY = "any"
"""Generation and engine of rows for whatever has none of its own."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """A row, and whether it was measured on the device's own generation."""

    row: Row
    is_exact: bool

    def number(self, column: str) -> float:
        """Value of a column."""
        return float(self.row[column])


@functools.cache
def _rows(table: str) -> tuple[Row, ...]:
    with (_TABLES / f"{table}.csv").open(encoding="utf-8", newline="") as lines:
        return tuple(csv.DictReader(lines))


@functools.cache
def _by_generation(table: str) -> Mapping[str, tuple[Row, ...]]:
    found: dict[str, list[Row]] = {}
    for row in _rows(table):
        found.setdefault(row["generation"], []).append(row)
    return {generation: tuple(rows) for generation, rows in found.items()}


def find_row(
    table: str,
    device: Hardware,
    engines: Sequence[str],
    *,
    of: tuple[str, Sequence[str]] | None = None,
    generation: str | None = None,
) -> Found:
    """The row to go by.

    What a kernel is comes before whose it is: of a related engine's kernels in the same format more
    is to be expected than of the same engine's in another. Rows of engines that are not named tell
    nothing: llama.cpp's kernels are no measure of a server's.

    Args:
        table: Name of its file.
        device: Whose limits its shares are of.
        engines: Whose kernels to take, the likeliest first.
        of: A column, and the values that it may have, the best first.
        generation: To look for, where it is not the device's own.
    """
    column, values = of or ("", ("",))
    wanted = _Wanted(table, tuple(engines), column, tuple(values))
    bandwidth = device.memory_bandwidth_gigabytes_per_second or 0.0
    return _find(wanted, generation or device.generation or ANY, device.name, bandwidth)


class _Wanted(NamedTuple):
    """What is looked for, whatever the device."""

    table: str
    engines: tuple[str, ...]
    column: str
    values: tuple[str, ...]


@functools.lru_cache(maxsize=8192)
def _find(wanted: _Wanted, generation: str, device: str, bandwidth: float) -> Found:
    tables, column = _by_generation(wanted.table), wanted.column
    for name in (generation, _SIMILAR.get(generation), ANY):
        rows = tables.get(name or "", ())
        for value in wanted.values:
            alike = [row for row in rows if not column or row[column] == value]
            for engine in (*wanted.engines, ANY):
                of_engine = [row for row in alike if row["engine"] == engine]
                if of_engine:
                    nearest = min(of_engine, key=lambda row: _distance(row, device, bandwidth))
                    return Found(nearest, name == generation and name != ANY)
    raise LookupError(
        f"table {wanted.table} has no row for everything else ({column} in {wanted.values})"
    )


def _distance(row: Row, device: str, bandwidth: float) -> float:
    if row["device"] == device:
        return -1.0
    there = row["device_gigabytes_per_second"]
    return abs(math.log(bandwidth / float(there))) if bandwidth and there else 0.0


def has_rows(device: Hardware) -> bool:
    """Whether products of weights were measured on a device's generation."""
    return device.generation in _by_generation("gemm")
