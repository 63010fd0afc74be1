"""What of the arithmetic is varied to measure the noise floor."""

from enum import Enum


class Variation(Enum):
    """What changes about the unquantized model's arithmetic, and nothing else."""

    float32 = "float32"
    """The run's arithmetic against float32; nothing where it is float32."""
    bfloat16 = "bfloat16"
    """bfloat16 against the run's arithmetic: what serving unquantized in bfloat16 does."""
    threads = "threads"
    """Another number of CPU threads: one, or two instead of one."""
    batch_size = "batch_size"
    """Another batch size: two windows at once, or half of ``tasks.batch_size`` (two instead of
    one)."""
    engine = "engine"
    """Another engine, ``eval.floor_engine``, on the same weights."""

    @property
    def is_of_any_engine(self) -> bool:
        """Whether it can be varied where the engine decides about types itself."""
        return self not in (Variation.float32, Variation.bfloat16)
