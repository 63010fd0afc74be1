"""A quantized layer of a checkpoint, made dense."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class UnpackedLayer:
    """A matrix, and what its layer does to inputs first."""

    weight: "torch.Tensor"
    """Float32, an output channel a row."""
    round_activations: "Callable[[torch.Tensor], torch.Tensor] | None" = None
    """Rounds inputs to what they are quantized to, as numbers of their own type."""
