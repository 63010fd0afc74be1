"""What is done to the weights. A method's own knobs live beside its code in runner.methods."""

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from runner.config.bits import Bits
from runner.config.group_size import GroupSize


def _lm_head() -> list[str]:
    return ["lm_head"]


@dataclass
class Method:
    """Fields every method has."""

    name: str = MISSING
    backend: str = MISSING
    """Library that carries the method out; it runs in the environment that provides it."""
    environment: Optional[str] = None
    """Name of that environment; by default the first that provides the backend."""
    ignore: list[str] = field(default_factory=_lm_head)
    """Linear layers left unquantized: names, or ``re:`` and a regular expression."""

    def scheme_label(self, bits: Bits, group_size: GroupSize) -> str:
        """Short name of the number formats that the method makes of ``bits``."""
        return f"{bits.label}-{group_size.label}"
