"""The result of stage ``plan``."""

from dataclasses import dataclass, field

from runner.planning.commands import Command
from runner.planning.option import Option
from runner.planning.stated_errors import StatedError


@dataclass
class PlanResult:
    """A prediction for every combination, the best first, and the decision in words."""

    model: str
    parameters: int
    active_parameters: int
    context_length: int
    prompt_tokens: int
    concurrency: int
    latency_seconds: float | None
    tokens_per_day: float | None
    recommendation: str
    notes: list[str]
    """Mistakes that people make with such a choice, where this plan invites them."""
    options: list[Option]
    ttft_seconds: float | None = None
    named_devices: list[str] = field(default_factory=list)
    """Devices that somebody asked about, each of which is answered for."""
    commands: list[Command] = field(default_factory=list)
    """What measures and what serves the first choice."""
    errors: list[StatedError] = field(default_factory=list)
    """How far predictions of these kinds were off."""
