"""How many weights share one scale."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded


class Granularity(Enum):
    """What one scale covers: the whole matrix, one output channel, or a group of inputs."""

    tensor = "tensor"
    channel = "channel"
    group = "group"


@dataclass
class GroupSize:
    """Granularity of the weights' scales."""

    granularity: Granularity = MISSING
    size: Optional[int] = bounded(None, least=1)
    """Consecutive input weights that share a scale; for ``granularity: group`` only."""

    @classmethod
    def named(cls, name: str) -> "GroupSize | None":
        """The group size of a name that a user lists; ``None`` where it is no such name."""
        if match := re.fullmatch(r"g([1-9]\d*)", name):
            return cls(Granularity.group, int(match[1]))
        wholes = {f"per_{one.value}": one for one in (Granularity.tensor, Granularity.channel)}
        return cls(wholes[name]) if name in wholes else None

    def is_among(self, names: Collection[str]) -> bool:
        """Whether a table lists it; ``g*`` in the table stands for any size of group."""
        return self.label in names or ("g*" in names and self.size is not None)

    @property
    def label(self) -> str:
        """``per_tensor``, ``per_channel`` or ``g64``."""
        if self.granularity is Granularity.group:
            return f"g{self.size}"
        return f"per_{self.granularity.value}"
