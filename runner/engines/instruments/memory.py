"""Memory of this process as Linux counts it, and what is free for it."""

import contextlib
import resource
from dataclasses import dataclass
from pathlib import Path

from runner.engines.instruments import torch_memory
from runner.engines.instruments.driver import read_gpus

_VERSION_2 = ("memory.current", "memory.peak", "memory.max")
_VERSION_1 = ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes")


@dataclass(frozen=True)
class ProcessMemory:
    """Resident set sizes in bytes."""

    resident: int
    peak: int


@dataclass
class ControlGroupMemory:
    """What the control group of this process is charged with, other processes of it included."""

    current_bytes: int
    peak_bytes: int | None
    """``None`` where the kernel does not keep it (version 2 before Linux 5.19)."""
    limit_bytes: int | None
    """``None`` without a limit."""
    reclaimable_bytes: int = 0
    """File pages among the current bytes that were not used of late."""


def process_memory_bytes() -> ProcessMemory:
    """Resident memory now and its peak since the last ``reset_peak_memory``."""
    fields: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith(("VmRSS:", "VmHWM:")):
                name, kibibytes = line.split()[:2]
                fields[name] = int(kibibytes) * 1024
    fallback = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return ProcessMemory(fields.get("VmRSS:", fallback), fields.get("VmHWM:", fallback))


def reset_peak_memory() -> None:
    """Start a new peak. Does nothing where the kernel does not offer it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def control_group_memory(root: Path = Path("/")) -> ControlGroupMemory | None:
    """Memory of this process's control group, version 2 or 1; ``None`` where there is none."""
    mounted = root / "sys/fs/cgroup"
    groups = {}
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            groups.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    first, second = mounted / "memory", mounted
    places = [
        (second / groups.get("", ""), _VERSION_2),
        (second, _VERSION_2),
        (first / groups.get("memory", ""), _VERSION_1),
        # Inside a container the path may be the host's, and the group is mounted at the top.
        (first, _VERSION_1),
    ]
    for folder, names in places:
        current, peak, limit = (_number(folder / name) for name in names)
        if current is not None:
            # Version 1 says "no limit" with the largest multiple of a page.
            bound = limit if (limit or 2**62) < 2**62 else None
            return ControlGroupMemory(current, peak, bound, _inactive_file(folder))
    return None


def free_memory_bytes(device: str, root: Path = Path("/")) -> int | None:
    """What a process may still take without pushing others out; ``None`` where nobody says.

    On a CPU the smaller of what the system has available and what the control group leaves, whose
    inactive file pages can be dropped; on GPUs what the driver has, and torch's unused reserve.
    """
    if device.startswith("cuda"):
        return _free_on_gpus()
    bounds = []
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                bounds.append(int(line.split()[1]) * 1024)
    group = control_group_memory(root)
    if group is not None and group.limit_bytes is not None:
        bounds.append(group.limit_bytes - group.current_bytes + group.reclaimable_bytes)
    return max(0, min(bounds)) if bounds else None


def _free_on_gpus() -> int | None:
    """All together, where each tells. Not asked of torch, which would begin to use all of them."""
    free = [reading.free_bytes for reading in read_gpus()]
    told = [one for one in free if one is not None]
    if not told or len(told) < len(free):
        return None
    return sum(told) + torch_memory.unused_bytes()


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        text = path.read_text("ascii").strip()
        return int(text) if text.isdigit() else None
    return None


def _inactive_file(folder: Path) -> int:
    inactive = 0
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text("ascii").splitlines():
            # Version 1 tells its children's apart.
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                inactive = max(inactive, int(line.split()[1]))
    return inactive
