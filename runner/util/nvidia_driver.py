"""The NVIDIA driver of this machine and the CUDA that it supports, found without using CUDA."""

import ctypes
import functools
from dataclasses import dataclass

OLDEST_DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""The oldest Linux driver that runs all of a major version of CUDA, by that version: NVIDIA's
CUDA Toolkit release notes, table "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor
Version Compatibility" (https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/)."""


@dataclass(frozen=True)
class Driver:
    """A driver that answers, on a machine that has a GPU."""

    version: str
    """As ``nvidia-smi`` shows it: ``580.65.06``."""
    cuda: str
    """Newest CUDA that it runs: ``13.0``. A compatibility package may have raised it."""

    @property
    def cuda_major(self) -> int:
        """Programs compiled for this major version of CUDA, or an older one, run."""
        return int(self.cuda.partition(".")[0])


def driver_of(version: str) -> Driver:
    """The driver of a version, with the CUDA that NVIDIA's table says it runs.

    A version before the first of the table runs ``0.0``, nothing that matters here.
    """
    numbers = _numbers(version)
    majors = [major for major, oldest in OLDEST_DRIVERS.items() if _numbers(oldest) <= numbers]
    return Driver(version, f"{max(majors, default=0)}.0")


@functools.cache
def installed_driver() -> Driver | None:
    """This machine's driver; ``None`` without one that answers, or without a GPU.

    GPUs that ``CUDA_VISIBLE_DEVICES`` hides count: what is installed is for the machine.
    """
    try:
        # Loading the driver's library tells at once what importing pynvml tells after 100 ms.
        ctypes.CDLL("libnvidia-ml.so.1")
        import pynvml

        pynvml.nvmlInit()
        if not pynvml.nvmlDeviceGetCount():
            return None
        version = str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # no library, no binding, or no driver that answers
        return None
    try:
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
    except pynvml.NVMLError:  # CUDA's own library is missing, as in some containers
        return driver_of(version)
    return Driver(version, f"{cuda // 1000}.{cuda % 1000 // 10}")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]
