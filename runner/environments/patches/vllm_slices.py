"""vLLM 0.33.0: takes the number of a GPU's slice (MIG) for the number of a GPU.

It asks NVML for the index of what ``CUDA_VISIBLE_DEVICES`` names. Of a slice that is its place
among the slices of its GPU, so that the second slice of a machine's only GPU ends in an invalid
argument, and on a machine of several GPUs another one is asked what it can do.
"""

from typing import Any

from runner.environments.patches.late import after_import


def apply() -> None:
    """Have a slice stand for its GPU wherever vLLM wants the GPU's index."""
    after_import("vllm.platforms.cuda", mend)


def mend(module: Any) -> None:
    """Replace the function that turns names into indices."""
    original = module.NvmlCudaPlatform.device_control_id_to_physical_device_id
    nvml = module.pynvml

    def index(cls: Any, device_id: str) -> int:
        if not device_id.startswith("MIG-"):
            return int(original(device_id))
        nvml.nvmlInit()
        try:
            part = nvml.nvmlDeviceGetHandleByUUID(device_id)
            whole = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part)
            return int(nvml.nvmlDeviceGetIndex(whole))
        finally:
            nvml.nvmlShutdown()

    module.NvmlCudaPlatform.device_control_id_to_physical_device_id = classmethod(index)
