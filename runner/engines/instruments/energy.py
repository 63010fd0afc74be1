"""Energy from the counters of processor packages (RAPL) and NVIDIA GPUs (NVML).

A machine that exposes none yields ``None``, never zero. Virtual machines rarely do, and reading
RAPL may need privileges.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.util.gpus import handles

_POWERCAP = Path("/sys/class/powercap")


@dataclass
class Energy:
    """Energy of a stretch of time, over everything that ran on the devices meanwhile."""

    joules: float
    by_device: dict[str, float]
    """``package-0``, ``gpu-0``, …"""


class EnergyMeter:
    """Reads counters at the start and the end of a stretch; use one meter for many."""

    def __init__(self, device: str, powercap: Path = _POWERCAP) -> None:
        """Find the counters. ``device`` is ``cpu`` or ``cuda``: GPUs count for the latter."""
        self._zones = [z for z in sorted(powercap.glob("*-rapl:*")) if z.name.count(":") == 1]
        self._gpus = handles() if device.startswith("cuda") else []

    def read(self) -> dict[str, float]:
        """Every counter that answers, in joules."""
        counters = {}
        for zone in self._zones:
            with contextlib.suppress(OSError, ValueError):
                name = (zone / "name").read_text("ascii").strip()
                counters[name] = int((zone / "energy_uj").read_text("ascii")) * 1e-6
        for index, (library, handle) in enumerate(self._gpus):
            with contextlib.suppress(Exception):  # GPUs before Volta have no such counter
                counters[f"gpu-{index}"] = (
                    library.nvmlDeviceGetTotalEnergyConsumption(handle) * 1e-3
                )
        return counters

    def between(self, before: dict[str, float], after: dict[str, float]) -> Energy | None:
        """What was used between two readings; a counter that wrapped around is continued."""
        wraps = self._wraps()
        used = {}
        for name in before.keys() & after.keys():
            joules = after[name] - before[name]
            if joules < 0 and name in wraps:
                joules += wraps[name]
            if joules >= 0:
                used[name] = joules
        return Energy(sum(used.values()), dict(sorted(used.items()))) if used else None

    def _wraps(self) -> dict[str, float]:
        wraps = {}
        for zone in self._zones:
            with contextlib.suppress(OSError, ValueError):
                limit = int((zone / "max_energy_range_uj").read_text("ascii"))
                wraps[(zone / "name").read_text("ascii").strip()] = limit * 1e-6
        return wraps


@contextlib.contextmanager
def metered(meter: EnergyMeter) -> Iterator[list[Energy | None]]:
    """Meter the block; the list holds what it used once it has ended."""
    readings: list[Energy | None] = []
    before = meter.read()
    yield readings
    readings.append(meter.between(before, meter.read()))


def total(parts: Iterable[Energy | None]) -> Energy | None:
    """Of stretches with pauses between them; ``None`` unless all of them were metered."""
    energies = list(parts)
    metered_parts = [part for part in energies if part is not None]
    if not energies or len(metered_parts) < len(energies):
        return None
    devices = dict.fromkeys(name for part in metered_parts for name in part.by_device)
    return Energy(
        sum(part.joules for part in metered_parts),
        {name: sum(part.by_device.get(name, 0.0) for part in metered_parts) for name in devices},
    )
