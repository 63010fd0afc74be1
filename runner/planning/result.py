"""The result of stage ``plan``."""

from dataclasses import dataclass

from runner.planning.option import Option


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
