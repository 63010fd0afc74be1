"""Rules on what a plan is asked."""

from collections.abc import Iterator

from runner.config.root import Config, StageName
from runner.errors import UsageError
from runner.legality.facts import Facts
from runner.legality.verdict import Verdict, illegal
from runner.planning.devices import devices_of
from runner.planning.formats import find_format
from runner.planning.shape import Shape


def check_plan(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on section ``plan``; none when the run does not plan."""
    if StageName.plan not in config.stages:
        return
    plan = config.plan
    try:
        Shape(facts.architecture)
        for label in plan.recipes:
            find_format(label)
        devices_of(plan.devices, config.hardware)
    except UsageError as error:
        yield illegal(str(error))
    for name, value, nearest in (
        ("recipes", plan.recipes, "[bf16,w8a8,w4a16-g128]"),
        ("tensor_parallel", plan.tensor_parallel, "[1,2,4,8]"),
    ):
        if not value or (name == "tensor_parallel" and min(plan.tensor_parallel) < 1):
            yield illegal(
                f"plan.{name}={value} leaves nothing to compare", f"plan.{name}={nearest}"
            )
    for name, least in _POSITIVE.items():
        number = getattr(plan, name)
        if number is not None and number < least:
            yield illegal(f"plan.{name}={number} is less than {least}", f"plan.{name}={least}")
    if not 0 < plan.memory_utilization <= 1:
        yield illegal(
            f"plan.memory_utilization={plan.memory_utilization} is a fraction",
            "plan.memory_utilization=0.9",
        )
    if plan.latency_seconds is not None and plan.latency_seconds <= 0:
        yield illegal(
            f"plan.latency_seconds={plan.latency_seconds} cannot be met",
            "plan.latency_seconds=0.05",
        )
    if plan.prompt_tokens >= plan.context_length:
        yield illegal(
            f"plan.prompt_tokens={plan.prompt_tokens} leaves no room for an answer in "
            f"plan.context_length={plan.context_length}",
            f"plan.context_length={2 * plan.prompt_tokens}",
        )
    longest = facts.architecture.context
    if longest is not None and plan.context_length > longest:
        yield illegal(
            f"plan.context_length={plan.context_length} exceeds the model's context of {longest}",
            f"plan.context_length={longest}",
        )


_POSITIVE = {
    "batch": 1,
    "context_length": 2,
    "prompt_tokens": 1,
    "largest_batch": 1,
    "kv_cache_bits": 4,
    "prefill_chunk_tokens": 1,
    "tokens_per_day": 1,
    "peak_factor": 1,
    "rows": 1,
}
"""Least sensible values."""
