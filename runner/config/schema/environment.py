"""The pinned set of packages in which backends and engines run."""

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded


def _any_python() -> str:
    return ">=3.11"


@dataclass
class Environment:
    """A virtual environment: its packages and the backends and engines that it provides."""

    name: str = MISSING
    provides: list[str] = field(default_factory=list)
    """Backends and engines that run in it."""
    accelerators: list[str] = field(default_factory=list)
    """Devices its packages are built for: ``cpu``, ``cuda``."""

    python: Optional[str] = None
    """Path of an interpreter of your own to use instead; nothing is then installed."""
    adopts_control: bool = False
    """Use the interpreter of the control process if it meets all requirements."""
    python_version: str = field(default_factory=_any_python)
    """Interpreters that its packages support, as a version specifier (PEP 440)."""

    requirements: list[str] = field(default_factory=list)
    """Packages to install, pinned (PEP 508)."""
    constraints: Optional[str] = None
    """File in ``conf/environment`` that pins all other packages."""
    excludes: list[str] = field(default_factory=list)
    """Dependencies of the requirements that are not installed."""
    torch_backend: Optional[str] = None
    """Build of torch that uv installs if there is no local wheel: ``cpu``, ``cu130``, or ``auto``
    for the newest that the driver runs; ``null`` leaves it to the index."""
    cuda: Optional[int] = bounded(None, least=11)
    """Major version of CUDA that its wheels are compiled for, where it is the same on every
    machine: an older driver is refused before anything is downloaded."""
    builds: list[str] = field(default_factory=list)
    """Source requirements that take long to build: built once per machine, and kept for later
    environments."""
    build_tools: dict[str, str] = field(default_factory=dict)
    """Executables needed for building, with the Debian package of each."""
    build_variables: dict[str, str] = bounded(factory=dict, prose=True)
    """Environment variables during the build."""

    variables: dict[str, str] = bounded(factory=dict, prose=True)
    """Environment variables of processes that run in it."""
    patches: list[str] = field(default_factory=list)
    """Modules of ``runner.environments.patches`` to apply before anything else is imported."""
    preload: list[str] = field(default_factory=list)
    """Modules the warm parent of all workers imports once."""
    preload_reused: list[str] = field(default_factory=list)
    """Modules that it imports after two jobs have, by name or pattern (``awq.*``). Not where a job
    finds a GPU: libraries that look for one when they are imported keep the parent from forking."""
    self_test: list[str] = field(default_factory=list)
    """Modules that ``runner env check`` imports."""
