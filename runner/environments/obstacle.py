"""Why nothing can run in an environment on a device, found before any work."""

from runner.config.schema.environment import Environment
from runner.environments.manager import EnvironmentManager, State
from runner.environments.needs import Obstacle, old_driver, unmet
from runner.environments.torch_build import CPU, what_decides
from runner.environments.torch_cuda import torch_without_cuda
from runner.util.nvidia_driver import installed_driver


def obstacle(environment: Environment, manager: EnvironmentManager, device: str) -> Obstacle | None:
    """Why an environment is of no use on a device, if so.

    Args:
        environment: Which.
        manager: Knows what there is of it.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: It names an interpreter that does not run.
    """
    state = manager.state(environment)
    if state in (State.absent, State.outdated):
        return unmet(environment)
    if device == CPU or installed_driver() is None:
        return None
    if state is not State.own and (old := old_driver(environment)):
        return old
    return _torch_for_cpus(environment, manager, state)


def _torch_for_cpus(
    environment: Environment, manager: EnvironmentManager, state: State
) -> Obstacle | None:
    """That the environment is for GPUs and its torch is not."""
    if environment.torch_backend == CPU or "cuda" not in environment.accelerators:
        return None  # what it does with torch it does on the CPU
    ready = manager.find(environment)
    version = torch_without_cuda(ready.python) if ready else None
    if ready is None or version is None:
        return None
    name = environment.name
    if state is State.own:
        remedy = f"installing a torch for CUDA there, or environment.{name}.python=null"
    elif decider := what_decides(environment):
        remedy = f"runner env create {name} without the {decider} that decided it"
    else:
        remedy = f"runner env remove {name} && runner env create {name}"
    return Obstacle(
        f"environment {name} ({ready.python}) has torch {version}, which was built without CUDA",
        remedy,
    )
