"""How many weights share one scale."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded


class Granularity(Enum):
    """What one scale covers: the matrix, an output channel, some of its inputs, or a square."""

    tensor = "tensor"
    channel = "channel"
    group = "group"
    block = "block"
    """As many output channels as inputs (DeepSeek-V3, arXiv 2412.19437)."""


_PREFIXES = {"g": Granularity.group, "b": Granularity.block}


@dataclass
class GroupSize:
    """Granularity of the weights' scales."""

    granularity: Granularity = MISSING
    size: Optional[int] = bounded(None, least=1)
    """Consecutive input weights that share a scale; for ``granularity: block`` the side of the
    square of weights that does. For these two only."""

    @classmethod
    def named(cls, name: str) -> "GroupSize | None":
        """The group size of a name that a user lists; ``None`` where it is no such name."""
        if match := re.fullmatch(r"([gb])([1-9]\d*)", name):
            return cls(_PREFIXES[match[1]], int(match[2]))
        wholes = {f"per_{one.value}": one for one in (Granularity.tensor, Granularity.channel)}
        return cls(wholes[name]) if name in wholes else None

    @property
    def is_sized(self) -> bool:
        """Whether a size belongs to its granularity."""
        return self.granularity in _PREFIXES.values()

    def is_among(self, names: Collection[str]) -> bool:
        """Whether a table lists it; ``g*`` stands for any size of group, ``b*`` of block."""
        return self.label in names or (self.size is not None and f"{self.label[0]}*" in names)

    @property
    def label(self) -> str:
        """``per_tensor``, ``per_channel``, ``g64`` or ``b128``."""
        if self.is_sized:
            return f"{self.granularity.value[0]}{self.size}"
        return f"per_{self.granularity.value}"
