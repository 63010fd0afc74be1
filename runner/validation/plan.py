"""Rules on plans."""

from collections.abc import Iterator

from runner.config.schema.root import Config, StageName
from runner.errors import UsageError
from runner.planning.devices import devices_of
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.planning.recipes import recipes_of
from runner.validation.context import Facts
from runner.validation.sizes import check_sizes
from runner.validation.verdict import Verdict, illegal


def check_plan(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on section ``plan``; none when the run does not plan."""
    if StageName.plan not in config.stages:
        return
    plan = config.plan
    shape = _shape(facts)
    if isinstance(shape, Shape):
        yield from check_sizes(config.model, shape, facts)
    else:
        yield illegal(f"model {config.model.name}: {shape}")
    try:
        for label in recipes_of(plan, facts.published_as):
            found = find_format(label, shape if isinstance(shape, Shape) else None)
            problem = found.problem_with(shape) if isinstance(shape, Shape) else None
            if problem is not None:
                yield illegal(f"plan.recipes: {problem}")
        devices_of(plan.devices, config.hardware)
    except UsageError as error:
        yield illegal(str(error))
    if plan.prompt_tokens >= plan.context_length:
        yield illegal(
            f"plan.prompt_tokens={plan.prompt_tokens} leaves no room for output in "
            f"plan.context_length={plan.context_length}",
            f"plan.context_length={2 * plan.prompt_tokens}",
        )
    longest = facts.architecture.context
    if longest is not None and plan.context_length > longest:
        yield illegal(
            f"plan.context_length={plan.context_length} exceeds the model's context of {longest}",
            f"plan.context_length={longest}",
        )


def _shape(facts: Facts) -> Shape | str:
    """The model's, or why there is none."""
    try:
        return Shape(facts.architecture)
    except UsageError as error:
        if facts.unreadable is None:
            return str(error)
        return (
            f"its config.json cannot be planned with: {facts.unreadable}; try saying its layers in "
            "model.architecture"
        )
