"""AutoGPTQ 0.7.1: takes it for granted that there is a GPU.

It moves each block to ``cuda:0`` and synchronizes that device, although nothing it does to
a block needs one.
"""

from typing import Any

from runner.environments.patches.late import after_import


def apply() -> None:
    """Let it compute on the CPU where there is nothing else."""
    after_import("auto_gptq.modeling._const", _mend)


def _mend(module: Any) -> None:
    import torch

    if not torch.cuda.is_available():
        module.CUDA_0 = module.CPU
        torch.cuda.synchronize = lambda *_, **__: None
