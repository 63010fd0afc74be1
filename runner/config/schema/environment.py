"""The pinned set of packages in which backends and engines run."""

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded


def _any_python() -> str:
    return ">=3.11"


@dataclass
class Environment:
    """A virtual environment: what it provides and what is installed in it."""

    name: str = MISSING
    provides: list[str] = field(default_factory=list)
    """Backends and engines that run in it."""
    accelerators: list[str] = field(default_factory=list)
    """Devices its packages are built for: ``cpu``, ``cuda``."""

    python: Optional[str] = None
    """Path of an interpreter of your own to use instead; nothing is then installed."""
    adopts_control: bool = False
    """Use the interpreter of the control process when it meets all requirements."""
    python_version: str = field(default_factory=_any_python)
    """Interpreters that its packages support, as a version specifier (PEP 440)."""

    requirements: list[str] = field(default_factory=list)
    """What is installed, pinned (PEP 508)."""
    constraints: Optional[str] = None
    """File in ``conf/environment`` with the versions of everything else."""
    excludes: list[str] = field(default_factory=list)
    """Dependencies of those that are left out."""
    torch_backend: Optional[str] = None
    """Which build of torch to ask uv for, where no local wheel is at hand: ``cpu``, ``auto``."""
    builds: list[str] = field(default_factory=list)
    """Requirements that come as source and take long to build: built once a machine, and kept
    for environments to come."""
    build_tools: dict[str, str] = field(default_factory=dict)
    """Executables that building needs, and the Debian package each comes in."""
    build_variables: dict[str, str] = bounded(factory=dict, prose=True)
    """Environment variables while it is built."""

    variables: dict[str, str] = bounded(factory=dict, prose=True)
    """Environment variables of processes that run in it."""
    patches: list[str] = field(default_factory=list)
    """Modules of ``runner.environments.patches`` to apply before anything else is imported."""
    preload: list[str] = field(default_factory=list)
    """Modules the warm parent of all workers imports once."""
    self_test: list[str] = field(default_factory=list)
    """Modules that ``runner env check`` imports."""
