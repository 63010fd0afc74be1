"""How speed and memory are measured."""

from dataclasses import dataclass
from enum import Enum

from runner.config.bounds import bounded


def _batch_sizes() -> list[int]:
    return [1, 4]


class Interleave(Enum):
    """Whether a recipe takes turns with the unquantized model."""

    auto = "auto"
    """Where one process can hold both; elsewhere the unquantized model is measured once more."""
    always = "always"
    """Or the run ends."""
    never = "never"
    """Measured separately: nothing is told from what the machine did meanwhile."""


@dataclass
class Bench:
    """Fixed prompt and output lengths, swept over batch sizes."""

    prompt_tokens: int = bounded(64, least=1)
    new_tokens: int = bounded(16, least=2, why="one token has no inter-token latency")
    batch_sizes: list[int] = bounded(factory=_batch_sizes, least=1, most=10**6, filled=True)
    repetitions: int = bounded(4, least=1, most=10**6)
    """Measured ones, of each of the two that take turns: an even number begins with either as
    often. Intervals of fewer are wide: Student's t has one degree of freedom less."""
    warmups: int = bounded(1, most=10**6)
    """Unmeasured repetitions before the measured ones, for every batch size."""
    baseline: bool = True
    """Measure the unquantized model too, once a sweep."""
    interleave: Interleave = Interleave.auto
    """Take a recipe's repetitions in turns with the unquantized model's (A B B A …), so that the
    machine's drift is in both and their ratio is told pair by pair. ``auto`` does so where both fit
    into memory and the engine can hold two models in a process; elsewhere it measures the
    unquantized model once more after the recipe, and intervals grow by what changed. ``never``
    measures separately, and then no difference is told."""
    reuse: bool = False
    """Take an earlier measurement from the store instead of measuring afresh."""
