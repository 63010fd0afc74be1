"""The NVIDIA GPUs that this process may use, as the driver's library (NVML) describes them.

NVML lists all GPUs of the machine, those that ``CUDA_VISIBLE_DEVICES`` hides included; a cluster
hides what it has given to others. Nothing here begins to use CUDA: that would take memory on the
GPU and keep the process from forking workers.

GPUs are numbered by their place on the bus, as ``nvidia-smi`` does and NVML. CUDA itself does so
only with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``, which workers are given.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
_LOADED_ALREADY = os.RTLD_NOLOAD | os.RTLD_LAZY
_NOT_INITIALIZED = 3
"""``CUDA_ERROR_NOT_INITIALIZED``: nobody has called ``cuInit``."""
ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@dataclass(frozen=True)
class Gpu:
    """One GPU, or a slice of one in MIG mode, as the driver describes it."""

    name: str
    """A slice's tells its profile: ``NVIDIA A100-SXM4-40GB MIG 3g.20gb``."""
    memory_bytes: int | None
    """``None`` where the GPU has no memory of its own."""
    compute_capability: str
    uuid: str
    index: int | None = None
    """Of the GPU as ``nvidia-smi`` numbers it; ``None`` for a slice, which only its UUID names."""

    @property
    def is_slice(self) -> bool:
        """Whether it is part of a GPU in MIG mode. A process can use one slice, not several."""
        return self.uuid.startswith("MIG-")


def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs that CUDA would find in a process like this one, in CUDA's order."""
    return tuple(gpu for _, gpu in _visible(_library()))


def handles() -> list[tuple[Any, Any]]:
    """NVML, and its handle of each GPU that this process may use, in CUDA's order."""
    library = _library()
    return [(library, handle) for handle, _ in _visible(library)]


def visible_variables(gpus: Sequence[Gpu]) -> dict[str, str]:
    """Environment variables of a process that is to find these GPUs and no others.

    They are named by UUID: where a cluster locks GPUs away, NVML's numbers are not CUDA's.
    """
    return {**ORDER, VISIBLE: ",".join(gpu.uuid for gpu in gpus)}


def _library() -> Any:
    """NVML, or ``None`` where there is no library, no binding, or no driver that answers."""
    try:
        # Loading the driver's library tells at once what importing pynvml tells after 100 ms.
        ctypes.CDLL("libnvidia-ml.so.1")
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml


def _visible(library: Any) -> list[tuple[Any, Gpu]]:
    try:
        groups = list(_installed(library)) if library is not None else []
    except Exception:  # a driver that stops answering
        return []
    asked = os.environ.get(VISIBLE)
    if asked is None:
        return [one for group in groups for one in group]
    return _chosen(groups, asked)


def _installed(library: Any) -> Iterator[list[tuple[Any, Gpu]]]:
    """Every GPU of the machine: itself, or its slices in MIG mode.

    NVML counts those that a cluster has locked away from this process, and those that have failed.
    Neither it nor CUDA can use them, and what ``CUDA_VISIBLE_DEVICES`` numbers are the others.
    """
    gone = (library.NVMLError_NoPermission, library.NVMLError_GpuIsLost)
    handles = []
    for place in range(library.nvmlDeviceGetCount()):
        with contextlib.suppress(*gone):
            handles.append(library.nvmlDeviceGetHandleByIndex(place))
    for index, handle in enumerate(handles):
        major, minor = library.nvmlDeviceGetCudaComputeCapability(handle)
        capability = f"{major}.{minor}"
        if not _is_sliced(library, handle):
            yield [(handle, _described(library, handle, capability, index))]
            continue
        slices = []
        for place in range(library.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(library.NVMLError_NotFound):
                part = library.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
                slices.append((part, _described(library, part, capability, None)))
        yield slices


def _is_sliced(library: Any, handle: Any) -> bool:
    try:
        current, _ = library.nvmlDeviceGetMigMode(handle)
    except library.NVMLError:  # most GPUs have no such mode
        return False
    return bool(current == library.NVML_DEVICE_MIG_ENABLE)


def _described(library: Any, handle: Any, capability: str, index: int | None) -> Gpu:
    try:
        memory_bytes = int(library.nvmlDeviceGetMemoryInfo(handle).total)
    except library.NVMLError_NotSupported:
        memory_bytes = None
    return Gpu(
        name=library.nvmlDeviceGetName(handle),
        memory_bytes=memory_bytes,
        compute_capability=capability,
        uuid=library.nvmlDeviceGetUUID(handle),
        index=index,
    )


def _chosen(groups: list[list[tuple[Any, Gpu]]], asked: str) -> list[tuple[Any, Gpu]]:
    """What a value of ``CUDA_VISIBLE_DEVICES`` leaves, by CUDA's rules.

    Entries are numbers, or the beginnings of UUIDs that one GPU or slice alone has. The first that
    names nothing hides the rest; one that names something twice hides everything.
    """
    found: list[tuple[Any, Gpu]] = []
    everything = [one for group in groups for one in group]
    for entry in map(str.strip, asked.split(",")):
        if entry.isdecimal() and int(entry) < len(groups):
            named = groups[int(entry)]
        elif entry.startswith(("GPU-", "MIG-")):
            named = [one for one in everything if one[1].uuid.startswith(entry)]
            named = named if len(named) == 1 else []
        else:
            named = []
        if not named:
            break
        if any(one in found for one in named):
            return []
        found += named
    return found


def uses_cuda() -> bool:
    """Whether something in this process has begun to use CUDA, by the driver's own account.

    Some libraries do when they are imported (FlashInfer), and torch to count the slices of a GPU in
    MIG mode. A process forked after that cannot use CUDA.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=_LOADED_ALREADY)
    except OSError:
        return False
    return bool(driver.cuCtxGetCurrent(ctypes.byref(ctypes.c_void_p())) != _NOT_INITIALIZED)
