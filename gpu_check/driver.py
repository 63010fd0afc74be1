"""What the driver's library (NVML) tells from outside, without torch and without the runner."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.util.gpus import Gpu, handles

_EVERY_SECONDS = 0.02
_MOMENT = 25
"""Samples: half a second."""


def versions() -> dict[str, str]:
    """The driver's version and the newest CUDA that it runs; empty without a driver."""
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        return {
            "driver": str(pynvml.nvmlSystemGetDriverVersion()),
            "cuda_driver": f"{cuda // 1000}.{cuda % 1000 // 10}",
        }
    return {}


def used_bytes(gpus: Sequence[Gpu]) -> list[int]:
    """Memory in use on each GPU, whoever uses it."""
    return [_used(library, handle) for library, handle in _handles(gpus)]


def _handles(gpus: Sequence[Gpu]) -> list[tuple[Any, Any]]:
    known = {library.nvmlDeviceGetUUID(handle): (library, handle) for library, handle in handles()}
    return [known[gpu.uuid] for gpu in gpus]


def _used(library: Any, handle: Any) -> int:
    return int(library.nvmlDeviceGetMemoryInfo(handle).used)


@dataclass
class Watched:
    """Memory of each GPU over some time."""

    before: list[int]
    samples: list[list[int]] = field(default_factory=list)

    @property
    def added(self) -> list[int]:
        """What the peak has over the beginning, GPU by GPU."""
        gpus = zip(*self.samples, strict=True)
        return [max(used) - before for used, before in zip(gpus, self.before, strict=True)]

    @property
    def at_the_end(self) -> int:
        """Most that was in use of all GPUs in the last moment before it was let go of."""
        sums = [sum(sample) - sum(self.before) for sample in self.samples]
        last = max(at for at, used in enumerate(sums) if used >= max(sums) / 2)
        return max(sums[max(0, last + 1 - _MOMENT) : last + 1])


@contextlib.contextmanager
def watched(gpus: Sequence[Gpu]) -> Iterator[Watched]:
    """Keep what is in use on each GPU meanwhile, fifty times a second."""
    known = _handles(gpus)
    before = [_used(*one) for one in known]
    found = Watched(before, [before])
    over = threading.Event()

    def look() -> None:
        while not over.wait(_EVERY_SECONDS):
            found.samples.append([_used(*one) for one in known])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def wait_until_free(gpus: Sequence[Gpu], before: Sequence[int], slack: int, limit: float) -> float:
    """Seconds until each GPU has no more than ``slack`` bytes over ``before`` in use.

    Raises:
        TimeoutError: Some have after ``limit`` seconds.
    """
    began = time.monotonic()
    while True:
        over = [now - then for now, then in zip(used_bytes(gpus), before, strict=True)]
        if max(over) <= slack:
            return time.monotonic() - began
        if time.monotonic() - began > limit:
            raise TimeoutError(f"{max(over) / 1e6:.0f} MB are still in use after {limit:.0f} s")
        time.sleep(0.1)
