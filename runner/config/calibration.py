"""What a recipe looks at while it quantizes."""

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from runner.config.text import Text


@dataclass
class Calibration:
    """Windows of tokens cut from a text, concatenated without padding."""

    name: str = MISSING
    text: Optional[Text] = field(default=None)
    samples: int = 0
    """Number of windows."""
    sequence_length: int = 0
    """Tokens in a window."""
    seed: int = 0
    """Seed of the choice of windows."""

    @property
    def tokens(self) -> int:
        """Tokens seen in all."""
        return self.samples * self.sequence_length
