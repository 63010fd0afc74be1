"""How many weights share one scale."""

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
    """Consecutive input weights that share a scale; told for ``granularity: group`` only."""

    @property
    def label(self) -> str:
        """``per_tensor``, ``per_channel`` or ``g64``."""
        if self.granularity is Granularity.group:
            return f"g{self.size}"
        return f"per_{self.granularity.value}"
