"""What an environment needs of a machine, checked before anything is downloaded or built."""

import shutil
from dataclasses import dataclass

from runner.config.schema.environment import Environment
from runner.environments.cuda_compiler import compiled_for
from runner.util.nvidia_driver import OLDEST_DRIVERS, installed_driver


@dataclass(frozen=True)
class Obstacle:
    """Why an environment is of no use, and what to do about it."""

    reason: str
    remedy: str
    """What follows "try"."""

    def __str__(self) -> str:
        return f"{self.reason}; try {self.remedy}"


def old_driver(environment: Environment) -> Obstacle | None:
    """That this machine's driver does not run what the environment's wheels are compiled for."""
    driver, needed = installed_driver(), environment.cuda
    if needed is None or driver is None or driver.cuda_major >= needed:
        return None
    oldest = OLDEST_DRIVERS.get(needed)
    wanted = f"NVIDIA driver {oldest} or newer" if oldest else "a newer NVIDIA driver"
    name = environment.name
    return Obstacle(
        f"environment {name} is compiled for CUDA {needed}, which needs {wanted}; this machine has "
        f"driver {driver.version}, which runs CUDA {driver.cuda} at most",
        f"updating the driver, or environment.{name}.python=PATH of an interpreter that has its "
        f"packages for CUDA {driver.cuda_major}",
    )


def newer_compiler(environment: Environment) -> Obstacle | None:
    """That what this machine's CUDA compiler makes does not run with this machine's driver."""
    driver, release = installed_driver(), compiled_for(environment)
    if driver is None or release is None or int(release.split(".")[0]) <= driver.cuda_major:
        return None
    return Obstacle(
        f"environment {environment.name} would be compiled by nvcc of CUDA {release}, and this "
        f"machine's driver {driver.version} runs CUDA {driver.cuda} at most",
        f"an nvcc of CUDA {driver.cuda_major} first on the PATH, or updating the driver",
    )


def missing_tools(environment: Environment) -> Obstacle | None:
    """That a build tool is not there."""
    missing = {
        tool: package
        for tool, package in environment.build_tools.items()
        if shutil.which(tool) is None
    }
    if not missing:
        return None
    return Obstacle(
        f"environment {environment.name} needs {', '.join(missing)} to be built",
        f"apt-get install {' '.join(sorted(set(missing.values())))}",
    )


def unmet(environment: Environment) -> Obstacle | None:
    """Why the environment cannot be made here, as far as that is known beforehand."""
    return old_driver(environment) or missing_tools(environment) or newer_compiler(environment)
