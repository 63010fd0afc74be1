"""Environment variables that workers get in addition to those of the control process."""

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from runner.environments.ready import ReadyEnvironment
from runner.pipeline.worker.importable import importable
from runner.planning.hardware.detect import detect
from runner.util.gpus import VISIBLE
from runner.util.instructions import kernel_limits
from runner.util.surroundings import for_children, for_workers


def variables_for(chosen: ReadyEnvironment, cache: Path, gpus: Mapping[str, str]) -> dict[str, str]:
    """Variables for workers of an environment.

    Args:
        chosen: The environment.
        cache: The store's; what makes the runner importable is made there.
        gpus: Variables that say which GPUs there are; nothing overrides them.
    """
    limits = kernel_limits(detect().instruction_sets)
    return {
        **for_children(),
        **for_workers(cache / "home"),
        **{name: limit for name, limit in limits.items() if name not in os.environ},
        # Containers of NVIDIA's have torch round float32's factors to TF32, which none asked for.
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "0",
        **chosen.variables,
        # The worker decides about threads after its fork; tokenizers warn about forks otherwise.
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        **({} if chosen.is_control else {"PYTHONPATH": _path(chosen, cache, bool(gpus[VISIBLE]))}),
        **gpus,
    }


def _path(chosen: ReadyEnvironment, cache: Path, on_gpu: bool) -> str:
    """What another interpreter imports beside its own: the runner, and on GPUs NVML's binding."""
    folders = [importable(cache)]
    if on_gpu and "nvidia-ml-py" not in chosen.installed:
        folders.append(cache / "import" / "nvml")
        folders[-1].mkdir(parents=True, exist_ok=True)
        spec = importlib.util.find_spec("pynvml")
        if spec is not None and spec.origin is not None:
            with contextlib.suppress(FileExistsError):
                (folders[-1] / Path(spec.origin).name).symlink_to(spec.origin)
    return os.pathsep.join(map(str, folders))
