"""What a right answer costs: the tokens of an answer at a plan's prices, over the share right.

A plan's price of a generated token is one at its own load: a request's prompt and answer in
the lengths that it was made for. An item's are others, so that the price is taken apart: a prompt
token costs what the device takes for a prompt alone, and a generated one the rest of the request's
price. For an item as long as the plan's requests that is the plan's own price.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.evaluation.metrics.generation import Generation
from runner.pipeline.stages.plan import STAGE as PLAN
from runner.planning.option import Option
from runner.planning.result import PlanResult
from runner.planning.runtime_format import recipe_format
from runner.store.records import RunRecord

UNQUANTIZED = "bf16"
"""What plans call a model in 16 bits."""
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class RightAnswerPrice:
    """Predicted, as all of a plan's prices."""

    dollars: float
    """For one right answer: all answers' tokens over the right ones' number."""
    device: str
    """The plan's first choice for the recipe: what it costs least on."""
    tensor_parallel: int


def plan_of(records: Sequence[RunRecord], record: RunRecord) -> PlanResult | None:
    """The plan that prices a run: its own, or another's of the same model; ``None`` without one."""
    for other in (record, *records):
        if other.model == record.model and (plan := other.result(PLAN)) is not None:
            return plan
    return None


def recipe_in_plan(record: RunRecord, *, is_baseline: bool) -> str | None:
    """What plans call a run's recipe; ``None`` for a format that they do not know."""
    if is_baseline:
        return UNQUANTIZED
    try:
        stored = recipe_format(record.config)
    except (KeyError, TypeError):  # of another version
        return None
    return None if stored is None else stored.label


def right_answer_price(
    plan: PlanResult | None, recipe: str | None, generation: Generation, accuracy: float | None
) -> RightAnswerPrice | None:
    """What a right answer costs.

    Args:
        plan: Whose prices.
        recipe: As the plan calls it.
        generation: The task's answers.
        accuracy: Share of right answers.

    Returns:
        ``None`` where no answer is right or the share is not known, where there is no plan, no such
        recipe in it or no price, and where the plan's requests are so nearly all prompt that their
        price says nothing of a generated token's.
    """
    if plan is None or not accuracy:
        return None
    for option in plan.options:
        if option.recipe != recipe:
            continue
        prices = _token_prices(plan, option)
        if prices is not None:
            prompt, generated = prices
            dollars = generation.prompt_tokens * prompt + generation.tokens * generated
            return RightAnswerPrice(dollars / accuracy, option.device, option.tensor_parallel)
    return None


def _token_prices(plan: PlanResult, option: Option) -> tuple[float, float] | None:
    """Dollars of a prompt token and of a generated one."""
    cost, hourly, prefill = (
        option.cost_per_million_tokens,
        option.price_per_hour,
        option.prefill_seconds,
    )
    if cost is None or hourly is None or prefill is None:
        return None
    generated = max(1, plan.context_length - plan.prompt_tokens)
    request = cost.expected * generated / 1e6
    prompt = prefill.expected * hourly * option.tensor_parallel / _SECONDS_PER_HOUR
    if prompt >= request:
        return None
    return prompt / plan.prompt_tokens, (request - prompt) / generated
