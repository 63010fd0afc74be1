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
    """Measured repetitions of each of the two alternating models; with an even number, each begins
    equally often. Fewer repetitions give wide intervals: Student's t has one degree of freedom less
    than there are repetitions."""
    warmups: int = bounded(1, most=10**6)
    """Unmeasured repetitions before the measured ones, for every batch size."""
    baseline: bool = True
    """Measure the unquantized model too, once per sweep."""
    interleave: Interleave = Interleave.auto
    """Alternate a recipe's repetitions with the unquantized model's (A B B A …), so that drift of
    the machine cancels out of their ratio. ``auto`` does so if both fit into memory and the engine
    can hold two models in one process; otherwise it measures the unquantized model again after the
    recipe, and its change widens the intervals. ``never`` measures separately, and then no
    difference is significant."""
    reuse: bool = False
    """Reuse an earlier measurement from the store instead of measuring again."""
