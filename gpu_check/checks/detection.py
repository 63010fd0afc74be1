"""Which GPUs there are: the driver's word against torch's."""

import json
from typing import Any

from gpu_check import driver
from gpu_check.outcome import Failed, NotPossible
from gpu_check.setting import Setting, bytes_in_words
from runner.api import compose_config
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager
from runner.environments.ready import ReadyEnvironment
from runner.util.gpus import Gpu

_LEAST_SHARE = 0.85
"""Of the memory that the driver tells of a GPU, what CUDA may use at least."""


def gpus(setting: Setting) -> str:
    """The GPUs that the runner uses, as the driver describes them."""
    setting.facts["driver"] = driver.versions()
    if not setting.gpus:
        raise NotPossible("a rehearsal on a CPU")
    told = setting.facts["driver"]
    words = [
        f"{gpu.name}, {bytes_in_words(gpu.memory_bytes or 0)}, capability {gpu.compute_capability}"
        for gpu in setting.gpus
    ]
    versions = (told.get(name, "unknown") for name in ("driver", "cuda_driver"))
    return "{}; driver {}, CUDA {}".format("; ".join(words), *versions)


def torch_agrees(setting: Setting) -> str:
    """torch, in the environment of workers, has the same GPUs in the same order."""
    if not setting.gpus:
        raise NotPossible("a rehearsal on a CPU")
    # CUDA takes one slice of a GPU at a time.
    expected = setting.gpus[:1] if setting.gpus[0].is_slice else setting.gpus
    told = json.loads(setting.probe(worker(setting).python, "sees", limit=60.0, gpus=expected))
    setting.facts["torch"] = told
    version = f"torch {told['torch']}"
    if not told["available"]:
        raise Failed(f"{version} (CUDA {told['cuda'] or 'none'}) cannot use a GPU")
    if len(told["gpus"]) != len(expected):
        raise Failed(
            f"{version} sees {len(told['gpus'])} GPUs, the runner {len(expected)}: "
            f"{[one['name'] for one in told['gpus']]}"
        )
    for index, (gpu, seen) in enumerate(zip(expected, told["gpus"], strict=True)):
        if wrong := _differences(gpu, seen):
            raise Failed(f"GPU {index} in {version}: {'; '.join(wrong)}")
    return f"{version}, CUDA {told['cuda']}: name, memory, capability and UUID of each agree"


def _differences(gpu: Gpu, seen: dict[str, Any]) -> list[str]:
    wrong = [
        f"{what} {seen[what]!r}, the driver says {getattr(gpu, what)!r}"
        for what in ("name", "compute_capability")
        if seen[what] != getattr(gpu, what)
    ]
    # A slice's own UUID is the driver's alone: CUDA tells its card's.
    if seen["uuid"] and not gpu.is_slice and seen["uuid"] not in gpu.uuid:
        wrong.append(f"UUID {seen['uuid']}, the driver says {gpu.uuid}")
    if gpu.memory_bytes and not _LEAST_SHARE <= seen["memory_bytes"] / gpu.memory_bytes <= 1:
        wrong.append(f"memory {seen['memory_bytes']}, the driver says {gpu.memory_bytes}")
    return wrong


def forks(setting: Setting) -> str:
    """What workers import beforehand leaves CUDA alone, so that forked ones can use it."""
    environment = worker(setting)
    arguments = ("forks", setting.device, *environment.preload)
    setting.probe(environment.python, *arguments, limit=90.0, gpus=setting.gpus[:1])
    return (
        f"after importing {', '.join(environment.preload)} a forked process computes on "
        f"{setting.device}"
    )


def worker(setting: Setting) -> ReadyEnvironment:
    """The environment that most stages work in."""
    config = compose_config(setting.arguments())
    chosen = choose(config.environment, "transformers", setting.device)
    manager = EnvironmentManager(setting.environments, setting.store / "logs")
    ready = manager.find(chosen)
    if ready is None:
        raise NotPossible(
            f"environment {chosen.name} is not there: runner env create {chosen.name}"
        )
    return ready
