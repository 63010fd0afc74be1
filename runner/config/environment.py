"""The pinned set of packages in which backends and engines run."""

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING


@dataclass
class Environment:
    """A Python interpreter and the packages a stage may rely on there."""

    name: str = MISSING
    python: Optional[str] = None
    """Path of the interpreter; the one that runs the control process by default."""
    preload: list[str] = field(default_factory=list)
    """Modules the warm parent of all workers imports once."""
