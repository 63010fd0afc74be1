"""Where results are kept."""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from runner.config.bounds import bounded


class Verify(Enum):
    """When a result of the store is compared with its digests before it is reused.

    Sizes and times of its files are compared every time.
    """

    auto = "auto"
    """Once a day, and where a size or a time has changed."""
    always = "always"


@dataclass
class Store:
    """Where models, checkpoints, results and records are kept."""

    root: str = bounded(
        MISSING, filled=True, why="name a folder with store.root=PATH or QUANT_RUNNER_STORE"
    )
    environments: str = bounded(MISSING, filled=True, why="name a folder")
    """Folder of virtual environments; several stores may share it."""
    verify: Verify = Verify.auto
    """When to compare a result with its digests before reusing it: ``auto`` does so once a day, and
    if the size or time of a file has changed; ``always`` does so every time. A damaged result is
    moved to the store's folder ``damaged``, named in a warning, and recomputed."""
