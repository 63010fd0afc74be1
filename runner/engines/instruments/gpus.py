"""The GPUs that this process may use, as the driver's library (NVML) knows them."""

from typing import Any


def gpu_handles() -> list[tuple[Any, Any]]:
    """NVML and its handle of each GPU, in CUDA's order; none without binding, driver or GPU.

    NVML counts all GPUs of the machine, those that ``CUDA_VISIBLE_DEVICES`` hides included, as a
    cluster hides what it has given to others. Only a GPU's UUID is the same in both.
    """
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        places = range(torch.cuda.device_count())
        uuids = [str(torch.cuda.get_device_properties(place).uuid) for place in places]
        return [(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")) for uuid in uuids]
    except Exception:  # whatever a library says that finds no device
        return []
