"""Memory of this process as Linux accounts for it."""

import contextlib
import resource
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessMemory:
    """Resident set sizes in bytes."""

    resident: int
    peak: int


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
