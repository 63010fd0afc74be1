"""The GPUs that this process may use, as the driver's library (NVML) knows them."""

from typing import Any


def gpu_handles() -> list[tuple[Any, Any]]:
    """NVML and its handle of each GPU, in CUDA's order; none without binding, driver or GPU.

    NVML counts all GPUs of the machine, those that ``CUDA_VISIBLE_DEVICES`` hides included, as a
    cluster hides what it has given to others. torch tells one count from the other without
    beginning to use CUDA, which would take memory and keep an engine from forking. As its own
    ``torch.cuda.power_draw`` does, that takes CUDA to number GPUs by their place on the bus
    (``CUDA_DEVICE_ORDER=PCI_BUS_ID``): set it on a machine of different GPUs.
    """
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        index: Any = torch.cuda._get_nvml_device_index
        places = [index(place) for place in range(torch.cuda.device_count())]
        return [(pynvml, pynvml.nvmlDeviceGetHandleByIndex(place)) for place in places]
    except Exception:  # whatever a library says that finds no device
        return []
