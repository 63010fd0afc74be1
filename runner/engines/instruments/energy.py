"""Energy from the counters of processor packages (RAPL) and NVIDIA GPUs (NVML).

A machine that exposes none yields ``None``, never zero. Virtual machines rarely do, and reading
RAPL may need privileges. A sum is of all packages or of none, and on GPUs there is one only where
every GPU in use has a counter of its own: a slice of one in MIG mode has none, its card's counts
its neighbours.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.util.gpus import handles, visible_gpus

_POWERCAP = Path("/sys/class/powercap")
_WHOLE_PLATFORM = "psys"
"""A zone of some laptops that the packages are part of."""


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
        self._zones: dict[str, Path] = {}
        for zone in sorted(powercap.glob("*-rapl:*")):
            with contextlib.suppress(OSError):
                name = (zone / "name").read_text("ascii").strip()
                if zone.name.count(":") == 1 and name != _WHOLE_PLATFORM:
                    self._zones[name] = zone
        self._on_gpus = device.startswith("cuda")
        self._gpus = []
        if self._on_gpus:
            self._gpus = [*zip(handles(), visible_gpus(), strict=True)]

    def read(self) -> dict[str, float]:
        """Every counter that answers, in joules."""
        counters = {}
        for name, zone in self._zones.items():
            with contextlib.suppress(OSError, ValueError):
                counters[name] = int((zone / "energy_uj").read_text("ascii")) * 1e-6
        for name, ((library, handle), gpu) in zip(self._gpu_names(), self._gpus, strict=True):
            with contextlib.suppress(Exception):  # GPUs before Volta have no such counter
                if not gpu.is_slice:
                    counters[name] = library.nvmlDeviceGetTotalEnergyConsumption(handle) * 1e-3
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
        gpus = self._gpu_names()
        if self._on_gpus and not (gpus and used.keys() >= {*gpus}):
            return None
        if len(used) < len(gpus) + len(self._zones):
            used = {name: used[name] for name in gpus}
        return Energy(sum(used.values()), dict(sorted(used.items()))) if used else None

    def _gpu_names(self) -> list[str]:
        return [f"gpu-{index}" for index in range(len(self._gpus))]

    def _wraps(self) -> dict[str, float]:
        wraps = {}
        for name, zone in self._zones.items():
            with contextlib.suppress(OSError, ValueError):
                wraps[name] = int((zone / "max_energy_range_uj").read_text("ascii")) * 1e-6
        return wraps


@contextlib.contextmanager
def metered(meter: EnergyMeter) -> Iterator[list[Energy | None]]:
    """Meter the block; the list holds what it used once it has ended."""
    readings: list[Energy | None] = []
    before = meter.read()
    yield readings
    readings.append(meter.between(before, meter.read()))


def total(parts: Iterable[Energy | None]) -> Energy | None:
    """Of stretches with pauses between them; ``None`` unless the same counters metered all."""
    energies = list(parts)
    metered_parts = [part for part in energies if part is not None]
    if not energies or len(metered_parts) < len(energies):
        return None
    devices = [*metered_parts[0].by_device]
    if any(part.by_device.keys() != {*devices} for part in metered_parts):
        return None
    return Energy(
        sum(part.joules for part in metered_parts),
        {name: sum(part.by_device[name] for part in metered_parts) for name in devices},
    )
