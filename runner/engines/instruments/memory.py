"""Memory of this process as Linux counts it, and of a GPU as torch and NVML do."""

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

from runner.util.gpus import handles

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


@dataclass
class DeviceMemory:
    """Memory of the GPU in use, as three parties count it."""

    allocated_bytes: int
    """Of torch's tensors, now."""
    allocated_peak_bytes: int
    reserved_peak_bytes: int
    """Most that torch's allocator took from the driver."""
    process_bytes: int | None
    """What the driver (NVML) charges this process with: CUDA's own context included."""


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
    inactive file pages can be dropped; on a GPU what the driver has, and torch's unused reserve.
    """
    if device.startswith("cuda"):
        import torch

        unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0] + unused)
    bounds = []
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                bounds.append(int(line.split()[1]) * 1024)
    group = control_group_memory(root)
    if group is not None and group.limit_bytes is not None:
        bounds.append(group.limit_bytes - group.current_bytes + group.reclaimable_bytes)
    return max(0, min(bounds)) if bounds else None


def device_memory(device: str) -> DeviceMemory | None:
    """The GPU's memory; ``None`` on a CPU, or when other processes than this one use the GPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    if not torch.cuda.max_memory_allocated():
        return None
    return DeviceMemory(
        allocated_bytes=torch.cuda.memory_allocated(),
        allocated_peak_bytes=torch.cuda.max_memory_allocated(),
        reserved_peak_bytes=torch.cuda.max_memory_reserved(),
        process_bytes=_driver_bytes(torch.cuda.current_device()),
    )


def _driver_bytes(place: int) -> int | None:
    with contextlib.suppress(Exception):  # a driver that tells no processes, or no such GPU
        library, handle = handles()[place]
        for process in library.nvmlDeviceGetComputeRunningProcesses(handle):
            # In a container the driver may know this process by another number.
            if process.pid == os.getpid():
                return int(process.usedGpuMemory)
    return None


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
