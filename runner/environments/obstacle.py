"""Why nothing can run in an environment on a device, found before any work."""

from runner.config.schema.environment import Environment
from runner.environments.manager import EnvironmentManager, State
from runner.environments.needs import Obstacle, old_driver, unmet
from runner.environments.torch_build import CPU, what_decides
from runner.environments.torch_cuda import torch_of
from runner.util.nvidia_driver import Driver, installed_driver


def obstacle(environment: Environment, manager: EnvironmentManager, device: str) -> Obstacle | None:
    """Why an environment is of no use on a device, if so.

    Args:
        environment: Which.
        manager: Knows what there is of it.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: It names an interpreter that does not run.
    """
    if device == CPU and not environment.build_tools:
        return None  # nothing to look for, which thousands of runs of a sweep need not do
    state = manager.state(environment, device)
    if state in (State.absent, State.outdated):
        return unmet(environment)
    driver = installed_driver()
    if device == CPU or driver is None:
        return None
    if state is not State.own and (old := old_driver(environment)):
        return old
    return _unfit_torch(environment, manager, state, driver)


def _unfit_torch(
    environment: Environment, manager: EnvironmentManager, state: State, driver: Driver
) -> Obstacle | None:
    """That the environment is for GPUs and its torch cannot use this one."""
    if environment.torch_backend == CPU or "cuda" not in environment.accelerators:
        return None  # what it does with torch it does on the CPU
    ready = manager.find(environment)
    torch = torch_of(ready.python) if ready else None
    fault = torch.unfit_for(driver) if torch else None
    if ready is None or fault is None:
        return None
    name = environment.name
    if state is State.own:
        remedy = f"installing another torch there, or environment.{name}.python=null"
    elif decider := what_decides(environment):
        remedy = f"runner env create {name} without the {decider} that decided it"
    else:
        remedy = f"runner env remove {name} && runner env create {name}"
    return Obstacle(f"environment {name} ({ready.python}) has {fault}", remedy)
