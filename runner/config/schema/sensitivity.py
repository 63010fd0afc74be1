"""How each layer's sensitivity to rounding is measured."""

from dataclasses import dataclass, field
from enum import Enum

from runner.config.bounds import bounded
from runner.config.schema.text import Text


class LayerGranularity(Enum):
    """What is rounded at a time."""

    linear = "linear"
    """One linear layer, or the embedding, or the head."""
    fused = "fused"
    """Layers that engines fuse and that must share a width: q/k/v, gate/up; else one layer."""
    block = "block"
    """All linear layers of a decoder block."""
    kind = "kind"
    """All layers of a name, such as every down_proj."""


def _bits() -> list[int]:
    return [4]


def _group_sizes() -> list[str]:
    return ["g64"]


@dataclass
class Sensitivity:
    """Rounds each unit alone, with every rounding of the grid, and scores the text."""

    text: Text = field(default_factory=Text)
    granularity: LayerGranularity = LayerGranularity.linear
    bits: list[int] = bounded(factory=_bits, least=1, most=64, filled=True)
    """Widths of the integer grids."""
    group_sizes: list[str] = bounded(factory=_group_sizes, filled=True)
    """Names of group sizes: ``g64``, ``per_channel`` or ``per_tensor``."""
    sym: bool = True
    """Use grids symmetric around zero, instead of grids with a zero point."""
    context_length: int = bounded(256, least=2, why="one token has none before it")
    """Tokens in a window."""
    windows: int = bounded(4, least=2, why="one gives no interval")
    """Number of windows, spread evenly over the text's documents."""
