"""Which build of torch an environment gets on this machine: for CPUs, or for a release of CUDA.

uv's ``auto`` is a choice among builds by the machine that uv runs on. Environments are shared
between machines, so the choice is made here, hashed, and handed to uv.
"""

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from runner.config.schema.environment import Environment
from runner.util.nvidia_driver import OLDEST_DRIVERS, driver_of, installed_driver
from runner.util.surroundings import from_here

CPU, AUTO = "cpu", "auto"
_FOR_CUDA = "cuda"
"""Followed by a major version: the newest build that uv knows for drivers of that CUDA."""
_BACKEND_VARIABLE, _DRIVER_VARIABLE = "UV_TORCH_BACKEND", "UV_CUDA_DRIVER_VERSION"
_FOLDER_VARIABLES = {"PIP_FIND_LINKS": None, "UV_FIND_LINKS": ","}
"""Folders with wheels, and what is between two of them."""
_UNLABELLED = "unlabelled"
"""A wheel without a local version: what it was built for is not known from its name."""


def torch_build(environment: Environment) -> str | None:
    """The build of torch that is installed here, by a name that machines can compare.

    ``cpu``; one of uv's for a release of CUDA, such as ``cu128``; ``cuda13`` for what uv chooses
    for any driver of CUDA 13; the label of a local wheel; ``None`` if the index decides.
    """
    asked = os.environ.get(_BACKEND_VARIABLE)
    if not asked and (label := _label(environment)):
        return label
    asked = asked or environment.torch_backend
    return _automatic(environment) if asked == AUTO else asked


def what_decides(environment: Environment) -> str | None:
    """The variable of the user's that decides which build it is; ``None`` without one."""
    if os.environ.get(_BACKEND_VARIABLE):
        return _BACKEND_VARIABLE
    if _label(environment):
        return " or ".join(name for name in _FOLDER_VARIABLES if os.environ.get(name))
    return None


def uv_choice(environment: Environment) -> tuple[list[str], dict[str, str]]:
    """Options and environment variables with which uv installs that build.

    For a GPU uv is told ``auto`` and the oldest driver of the machine's CUDA: PyTorch does not
    publish every version for every release of CUDA, and uv then takes the newest that there is.
    """
    build = torch_build(environment)
    if build is None or what_decides(environment) not in (None, _BACKEND_VARIABLE):
        return [], {}
    if not build.startswith(_FOR_CUDA):
        return ["--torch-backend", build], {}
    oldest = OLDEST_DRIVERS.get(int(build.removeprefix(_FOR_CUDA)))
    driver = installed_driver()
    version = oldest or (driver.version if driver else OLDEST_DRIVERS[max(OLDEST_DRIVERS)])
    return ["--torch-backend", AUTO], {_DRIVER_VARIABLE: version}


def computes_on_gpus(build: str | None) -> bool:
    """Whether a build is certain to be one for NVIDIA GPUs."""
    return build is not None and build.startswith("cu")


def _automatic(environment: Environment) -> str:
    """What ``auto`` stands for: a build for the driver, if the environment is for GPUs at all."""
    if _FOR_CUDA not in environment.accelerators:
        return CPU
    stated = os.environ.get(_DRIVER_VARIABLE)
    driver = driver_of(stated) if stated else installed_driver()
    if driver is not None:
        return f"{_FOR_CUDA}{driver.cuda_major}" if driver.cuda_major else CPU
    if CPU in environment.accelerators:
        return CPU
    # Made for machines other than this one, as on the login node of a cluster.
    return f"{_FOR_CUDA}{environment.cuda or max(OLDEST_DRIVERS)}"


def _label(environment: Environment) -> str | None:
    """Of the newest local wheel of torch that will do; ``None`` without one."""
    named = (Requirement(text) for text in environment.requirements)
    wanted = [one.specifier for one in named if one.name.lower() == "torch"]
    fitting = [
        version
        for version in _wheels()
        if all(specifier.contains(version, prereleases=True) for specifier in wanted)
    ]
    return (max(fitting).local or _UNLABELLED) if fitting else None


def _wheels() -> Iterator[Version]:
    """Versions of torch in the folders that installers are told to look into."""
    places = (
        place
        for name, separator in _FOLDER_VARIABLES.items()
        for place in os.environ.get(name, "").split(separator)
    )
    machine = platform.machine()
    mine = (f"cp{sys.version_info.major}{sys.version_info.minor}", machine)
    for place in filter(None, places):
        folder = Path(from_here(place))
        for wheel in folder.glob("torch-*.whl") if folder.is_dir() else ():
            try:
                _, version, _, tags = parse_wheel_filename(wheel.name)
            except InvalidWheelFilename:
                continue
            if any((tag.interpreter, tag.platform[-len(machine) :]) == mine for tag in tags):
                yield version
