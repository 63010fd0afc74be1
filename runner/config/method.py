"""What is done to the weights. A method's own knobs live beside its code in runner.methods."""

from dataclasses import dataclass, field

from omegaconf import MISSING


def _lm_head() -> list[str]:
    return ["lm_head"]


@dataclass
class Method:
    """Fields every method has."""

    name: str = MISSING
    ignore: list[str] = field(default_factory=_lm_head)
    """Linear layers left unquantized: names, or ``re:`` and a regular expression."""
