"""What a recipe must meet to be taken, and what it is chosen by among those that do."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Optional

from runner.config.bounds import BYTES, bounded
from runner.util.extensions import Kind, names


def _engines() -> tuple[str, ...]:
    return tuple(names(Kind.engine))


def _devices() -> tuple[str, ...]:
    from runner.config.options import option_files

    return tuple(option_files("hardware"))


class Goal(StrEnum):
    """What is best among recipes that meet every limit."""

    quality = "quality"
    """The least loss: by perplexity, then KL divergence, then accuracy."""
    size = "size"
    """The smallest checkpoint."""
    speed = "speed"
    """The most tokens per second of one sequence."""
    cost = "cost"
    """The fewest dollars per generated token: at the most users within ``serving.slo`` where they
    were searched for, else at the batch size where that is fewest."""


MEASURED_BY = {
    "min_recovery": ("tasks",),
    "max_kl": ("eval",),
    "max_perplexity_ratio": ("eval",),
    "max_memory_bytes": ("bench",),
    "min_decode_tokens_per_second": ("bench",),
    "max_ttft_seconds": ("bench",),
}
"""Stages of which one measures what a limit is about; any stage tells size, engine and device."""
GOAL_MEASURED_BY = {Goal.speed: ("bench",), Goal.cost: ("bench", "serving")}
"""The same of goals."""


@dataclass
class Decide:
    """Limits that a recipe must meet to be taken, and the goal among those that do.

    Limits of quality and speed are met only if the whole 95% interval is within them.
    """

    goal: Optional[Goal] = None
    """If null: quality, if a limit of size, memory or speed is set, or no size is known; otherwise
    size."""
    max_checkpoint_bytes: Optional[int] = bounded(None, least=1, most=BYTES)
    """Largest checkpoint."""
    max_memory_bytes: Optional[int] = bounded(None, least=1, most=BYTES)
    """Most memory in use during the benchmark: of the GPUs, or of the process on a CPU."""
    min_recovery: Optional[float] = bounded(None, above=True, most=1)
    """Least accuracy on the tasks, as a share of the unquantized model's."""
    max_kl: Optional[float] = bounded(None, above=True)
    """Largest KL divergence from the unquantized model, in nats per token."""
    max_perplexity_ratio: Optional[float] = bounded(None, above=True)
    """Largest perplexity, as a ratio to the unquantized model's. If neither it nor another limit of
    quality is set, 1.1, unless the goal is quality."""
    min_decode_tokens_per_second: Optional[float] = bounded(None, above=True)
    """Least decode speed at the first batch size."""
    max_ttft_seconds: Optional[float] = bounded(None, above=True)
    """Longest time to the first token at the first batch size."""
    engine: Optional[str] = bounded(None, choices=_engines)
    """The only engine to serve on."""
    hardware: Optional[str] = bounded(None, choices=_devices)
    """The only device to serve on, of those that were measured."""

    @property
    def limits(self) -> dict[str, object]:
        """What is set besides the goal, by field."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "goal"}
        return {name: value for name, value in values.items() if value is not None}
