"""How speed and memory are measured."""

from dataclasses import dataclass, field


def _batch_sizes() -> list[int]:
    return [1, 4]


@dataclass
class Bench:
    """Fixed prompt and output lengths, swept over batch sizes."""

    prompt_tokens: int = 64
    new_tokens: int = 16
    batch_sizes: list[int] = field(default_factory=_batch_sizes)
    repetitions: int = 3
    warmups: int = 1
    """Unmeasured repetitions before the measured ones, for every batch size."""
    baseline: bool = True
    """Measure the unquantized model too, once a sweep."""
    interleave: bool = False
    """Also take turns with the unquantized model, repetition by repetition (A B A B), so that the
    machine's drift is in both. Both are then in memory."""
    reuse: bool = False
    """Take an earlier measurement from the store instead of measuring afresh."""
