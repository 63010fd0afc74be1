"""Memory of the GPUs in use as NVIDIA's driver counts it: CUDA's own contexts and all."""

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from runner.util.gpus import handles

_UNUSED_BYTES = 64 << 20
"""Of a GPU that nobody computes on, less is in use: a few MB where it keeps its state."""


class Counted(Enum):
    """Where a figure of the driver comes from."""

    processes = "processes"
    """What it charges each of the processes with."""
    device = "device"
    """What GPUs that nobody used have in use since. In containers the driver may know processes by
    other numbers than they do themselves."""


@dataclass(frozen=True)
class Held:
    """What processes hold on GPUs."""

    bytes: int
    counted: Counted


@dataclass(frozen=True)
class GpuReading:
    """What the driver says of one GPU now; ``None`` where it does not."""

    used_bytes: int | None
    """By all processes, without what the driver keeps for itself."""
    free_bytes: int | None
    processes: dict[int, int | None] | None
    """Bytes by process id."""


def read_gpus() -> list[GpuReading]:
    """A reading of each GPU that this process may use; empty where no driver answers."""
    return [_reading(library, handle) for library, handle in handles()]


def held_by(
    pids: Collection[int], before: Sequence[GpuReading], now: Sequence[GpuReading]
) -> Held | None:
    """What processes hold on all GPUs in use; ``None`` where the driver does not tell.

    Args:
        pids: The processes.
        before: Readings from before they began.
        now: Readings of the same GPUs.
    """
    # One that was there before they began is somebody else's, by another's numbers.
    others = {pid for reading in before for pid in reading.processes or {}}
    known = [reading.processes or {} for reading in now]
    charged = [bytes_ for one in known for pid, bytes_ in one.items() if pid in {*pids} - others]
    if charged:
        # On a GPU that lists none of them they hold nothing.
        told = [one for one in charged if one is not None]
        complete = len(told) == len(charged) and all(one.processes is not None for one in now)
        return Held(sum(told), Counted.processes) if complete else None
    if not now or len(before) != len(now):
        return None
    total = 0
    for then, since in zip(before, now, strict=True):
        if then.processes or then.used_bytes is None or since.used_bytes is None:
            return None
        if then.used_bytes > _UNUSED_BYTES:
            return None
        total += since.used_bytes - then.used_bytes
    return Held(total, Counted.device) if total > 0 else None


def _reading(library: Any, handle: Any) -> GpuReading:
    used = free = processes = None
    with contextlib.suppress(Exception):  # it shares the machine's memory, or the driver is old
        memory = library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2)
        used, free = int(memory.used), int(memory.free)
    with contextlib.suppress(Exception):  # a driver that tells no processes
        # A process's memory is ``None`` where the driver does not manage it.
        processes = {
            int(one.pid): None if one.usedGpuMemory is None else int(one.usedGpuMemory)
            for one in library.nvmlDeviceGetComputeRunningProcesses(handle)
        }
    return GpuReading(used, free, processes)
