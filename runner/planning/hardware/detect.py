"""Detects this machine's hardware from the system and the driver, without torch.

Every reading that a container, a virtual machine or another operating system lacks becomes None,
an empty tuple or a fallback; nothing here raises because a file is missing. What the CPU computes
can be overridden: see ``runner.util.instructions``.
"""

import math
import os
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from runner.util.gpus import Gpu, visible_gpus
from runner.util.instructions import BFLOAT16, reported, usable

if TYPE_CHECKING:  # A worker's environment may lack OmegaConf, which this module imports.
    from runner.config.schema.hardware import Hardware

_OF_A_KIND = ("name", "memory_bytes", "compute_capability")
VARIANTS = "D|Ti|SUPER|Laptop|Max|Pro|Ultra|NVL|MIG"
"""After a device's name they make it another device."""


@dataclass(frozen=True)
class Machine:
    """What this process has at its disposal."""

    cpu_name: str
    cpu_architecture: str
    """As uname gives it: ``x86_64``, ``aarch64``, ``arm64``."""
    physical_cores: int | None
    """Cores of the whole machine, hardware threads of one core counted once."""
    usable_cores: int
    """Logical CPUs this process may keep busy: the lesser of affinity and control group quota."""
    instruction_sets: tuple[str, ...]
    """Those that count of ``runner.util.instructions.RELEVANT``, sorted."""
    last_level_cache_bytes: int | None
    """Sum over the last-level caches behind the CPUs of this process's affinity."""
    memory_bytes: int
    """The lesser of the installed memory and the control group's limit."""
    gpus: tuple[Gpu, ...]
    """Those that this process may use; of a run, those that it does use."""

    @property
    def computes_bfloat16(self) -> bool:
        """Whether the CPU has bfloat16 arithmetic; without it bfloat16 is emulated, slowly."""
        return not BFLOAT16.isdisjoint(self.instruction_sets)

    def to_dict(self) -> dict[str, Any]:
        """The machine as nested dictionaries and tuples, ready for JSON."""
        return asdict(self)

    def using(self, gpus: Sequence[Gpu]) -> "Machine":
        """The same machine with no other GPUs than these."""
        return replace(self, gpus=tuple(gpus))

    def identity(self) -> dict[str, Any]:
        """What decides how fast it is: its GPUs without what tells one from another of its kind."""
        return kind_of(self.to_dict())


def detect(root: Path = Path("/")) -> Machine:
    """Describe this machine in a few milliseconds (longer where a GPU driver has to wake up).

    Args:
        root: Where ``proc`` and ``sys`` lie; another folder serves tests.

    Raises:
        UsageError: The override of instruction sets names an unknown one.
    """
    everywhere = set(range(os.cpu_count() or 1))  # macOS knows no affinity
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else everywhere
    block, _, _ = (_read(root / "proc/cpuinfo") or "").partition("\n\n")  # CPUs are blocks, alike
    described = dict(re.findall(r"^(\S.*?)\s*: (.*)$", block, re.MULTILINE))
    return Machine(
        cpu_name=described.get("model name") or platform.processor() or "unknown",
        cpu_architecture=platform.machine(),
        physical_cores=_physical_cores(root),
        usable_cores=max(1, math.ceil(min(len(cpus), _cpu_quota(root)))),
        instruction_sets=usable(reported(root)),
        last_level_cache_bytes=_last_level_cache_bytes(root, cpus),
        memory_bytes=_memory_bytes(root),
        gpus=visible_gpus(),
    )


def kind_of(host: dict[str, Any]) -> dict[str, Any]:
    """A recorded machine without what tells its GPUs from others of their kind."""
    if "gpus" not in host:
        return host
    gpus = [{key: gpu.get(key) for key in _OF_A_KIND} for gpu in host["gpus"]]
    return {**host, "gpus": gpus}


def recognises(hardware: "Hardware", machine: Machine) -> bool:
    """Whether ``machine`` has the device that ``hardware`` lists."""
    return recognised_among(hardware, [gpu.name for gpu in machine.gpus])


def recognised_among(hardware: "Hardware", names: Iterable[str]) -> bool:
    """The same of GPUs by the names that the driver reports.

    ``match`` must be part of a GPU's name in whole words, or "NVIDIA A10" would be an A100 too, and
    nothing may follow that makes it another device ("RTX 3090 Ti", "H200 NVL", "H20-3e", or
    "A10-8Q", a third of an A10 in a virtual machine).
    """
    if hardware.is_local or not hardware.match:
        return hardware.is_local
    name = rf"(?<!\w){re.escape(hardware.match)}(?![\w-])(?! (?:{VARIANTS})\b)"
    return any(re.search(name, gpu) for gpu in names)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _physical_cores(root: Path) -> int | None:
    folders = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology")
    siblings = {_read(folder / "thread_siblings_list") for folder in folders}
    return len(siblings - {None}) or None


def _last_level_cache_bytes(root: Path, cpus: set[int]) -> int | None:
    covered: set[int] = set()
    total = 0
    for cpu in sorted(cpus):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/cache"
        levels = {_read(index / "level") or "": index for index in folder.glob("index*")}
        if cpu in covered or not levels:
            continue
        last = levels[max(levels)]
        total += int((_read(last / "size") or "0K").rstrip("K")) * 1024  # the kernel prints KiB
        # A list such as "0-3,8": the CPUs that share this cache.
        for low, high in re.findall(r"(\d+)(?:-(\d+))?", _read(last / "shared_cpu_list") or ""):
            covered.update(range(int(low), int(high or low) + 1))
    return total or None


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups that limit this process, ancestors included, in both versions.

    Inside a container the path in /proc may be the host's while the container's own group is
    mounted at the top; folders that do not exist read as no limit.
    """
    mounted = root / "sys/fs/cgroup"
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        own = PurePosixPath(path.lstrip("/"))
        for mount in {controllers, controller} if controllers else ("", "unified"):
            yield from (mounted / mount / group for group in (own, *own.parents))


def _cpu_quota(root: Path) -> float:
    """CPUs' worth of time per period that the strictest group grants; infinity without a limit."""
    quotas = []
    for folder in _control_groups(root, "cpu"):
        first = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
        quota, _, period = (_read(folder / "cpu.max") or first).partition(" ")
        if quota.isdigit() and period.isdigit():  # else "max", -1 or absent: no limit
            quotas.append(int(quota) / int(period))
    return min(quotas, default=math.inf)


def _memory_bytes(root: Path) -> int:
    total = re.search(r"^MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo") or "", re.MULTILINE)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS has no /proc
    limits = [int(total[1]) * 1024 if total else pages]
    for folder in _control_groups(root, "memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or ""
        limits += [int(limit)] if limit.isdigit() else []
    return min(limits)
