"""Rules on a model's parameters: what is counted is held against what is stated elsewhere."""

from collections.abc import Iterator

from runner.config.schema.model import Model
from runner.data.models.stated_size import StatedSize, named_sizes, stored_size
from runner.planning.model_shape import Shape
from runner.validation.context import Facts
from runner.validation.verdict import Verdict, illegal, warning

_APART = 0.02


def check_sizes(model: Model, shape: Shape, facts: Facts) -> Iterator[Verdict]:
    """Findings on a count of parameters that a plan goes by."""
    stated = _stated(model, shape, facts)
    agree = [one for one in stated if _agrees(one, shape)]
    if not facts.family_known:
        yield _of_unknown_family(shape, facts, stated, agree)
    elif stated and len(agree) < len(stated):
        one = next(one for one in stated if one not in agree)
        counted = _billions(_count(one, shape)) + (" active" if one.active else "")
        yield warning(
            f"the dimensions of model {model.name} give {counted} parameters, by {one.source} it "
            f"should be {_span(one)}: the plan goes by the dimensions",
            "model.architecture with the right ones",
        )
    known = facts.architecture.parameters
    if known and abs(shape.counted / known - 1) > _APART:
        yield warning(
            f"model.architecture.parameters={known} is not what its dimensions give, "
            f"{shape.counted}: the difference is taken for weights that stay in 16 bits",
            f"model.architecture.parameters={shape.counted}",
        )
    for part in facts.not_counted:
        yield warning(f"model {model.name}: {part}")


def _of_unknown_family(
    shape: Shape, facts: Facts, stated: list[StatedSize], agree: list[StatedSize]
) -> Verdict:
    family = facts.architecture.family
    read = f"read as most families are it has {_billions(shape.counted)} parameters"
    if stated and len(agree) == len(stated):
        return warning(
            f"model_type {family} is not known here: {read}, as it should by {agree[0].source}; "
            "whether its KV cache is as large as other families' is not known"
        )
    says = "and nothing says how many it should have"
    if stated:
        says = f"by {stated[0].source} it should be {_span(stated[0])}"
    return illegal(
        f"model_type {family} is not known here: {read}, {says}",
        "model.architecture.family=llama, if its layers are Llama's",
    )


def _stated(model: Model, shape: Shape, facts: Facts) -> list[StatedSize]:
    quantized = facts.quantized_as is not None
    stored = stored_size(model, shape.layers, quantized=quantized, tied=shape.tied)
    return [stored] if stored else named_sizes(model)


def _count(stated: StatedSize, shape: Shape) -> int:
    if not stated.active:
        return shape.counted
    return shape.counted - (shape.parameters - shape.active_parameters)


def _agrees(stated: StatedSize, shape: Shape) -> bool:
    tables = shape.embedding_weights * (1 if shape.tied else 2)
    count = _count(stated, shape)
    return stated.holds(count, count - (tables if stated.source.startswith("its name") else 0))


def _span(stated: StatedSize) -> str:
    low, high = _billions(stated.least), _billions(stated.most)
    return low if low == high else f"{low} to {high}"


def _billions(number: float) -> str:
    return f"{number / 1e9:.3g} B" if number >= 1e9 else f"{number / 1e6:.3g} M"
