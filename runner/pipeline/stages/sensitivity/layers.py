"""Formats of a recipe's layers: chosen by sensitivities, then measured together."""

from typing import TYPE_CHECKING

from runner.data.models.expert_names import expert_layers
from runner.data.models.layers import part_of
from runner.data.models.tensors import matrix_shapes, report_tensors
from runner.data.models.weights import tensor_headers
from runner.errors import Refused
from runner.methods.mixed_precision.active import active_bytes, routed_share
from runner.methods.mixed_precision.allocate import Matrices, allocate, harms_alone
from runner.methods.mixed_precision.allocate_types import allocate_types
from runner.methods.mixed_precision.rounding import rounding_named
from runner.methods.recipe import Recipe
from runner.pipeline.stages.base import TRANSFORMERS
from runner.pipeline.stages.jobs.together import STAGE as TOGETHER
from runner.pipeline.stages.jobs.together import TogetherRequest, TogetherResult
from runner.pipeline.stages.sensitivity import (
    PACKAGES,
    SensitivityResult,
    asked,
    needed_sensitivity,
)
from runner.store.records import RECIPE

if TYPE_CHECKING:
    from runner.pipeline.context import RunContext
    from runner.pipeline.stage_job import StageResult


def layer_formats(run: "RunContext", recipe: Recipe, found: SensitivityResult) -> dict[str, str]:
    """Formats of the recipe's layers, from sensitivities.

    Within a budget it is measured, told and filed with the run what they cost together, but for
    types of a backend's own.

    Raises:
        StageError: The budget is too small, or ``method.keep`` names no layer.
    """
    directory = run.model.directory
    share = routed_share(directory)

    def tell(reason: str) -> None:
        run.inputs.warn(f"{recipe.label}: {reason}")

    if found.tensors:
        return allocate_types(recipe, found, run.model.dtype, share, tell)
    matrices = Matrices(
        matrix_shapes(directory),
        report_tensors(directory).bytes,
        active_bytes(directory, share) if share < 1 else 0,
        share,
    )
    measured = {layer for unit in found.units for layer in unit.layers}
    if lost := [layer for layer in expert_layers(matrices.shapes) if layer not in measured]:
        raise Refused(
            f"the sensitivity of experts such as {lost[0]} cannot be measured: transformers keeps "
            "them in parameters of another form; try one format for all layers (bits=w4a16)"
        )
    formats = allocate(recipe, found, matrices, tell=tell)
    if recipe.bits.is_auto:
        together = _measured_together(run, recipe, found, formats)
        run.keep(TOGETHER.name, RECIPE, together)
        if together.known is not None and not run.inputs.only_looks:
            _tell(run, together.known)
    return formats


def require_experts_apart(run: "RunContext") -> None:
    """See that a mixture's experts can be measured, before the others are.

    Raises:
        Refused: The model's files have all experts of a layer in one tensor: llm-compressor does
            not pack that form, and transformers may keep it in another order than GGUF files do.
    """
    directory = run.model.directory
    if not directory.exists():  # a dry run
        return
    experts = [name for name in tensor_headers(directory) if part_of(name) == "experts"]
    if experts and not expert_layers(matrix_shapes(directory)):
        raise Refused(
            "formats of their own are for experts that the model's files have one by one; here "
            "all experts of a layer are one tensor; try one type for all layers "
            "(method=gguf bits=w4a16)"
        )


def _measured_together(
    run: "RunContext", recipe: Recipe, found: SensitivityResult, formats: dict[str, str]
) -> "StageResult[TogetherResult]":
    """What the units cost when all have their formats, on the sensitivities' text."""
    needed = needed_sensitivity(run.config)
    assert needed is not None, "only a recipe that needs sensitivities chooses by them"
    chosen = {
        unit.name: rounding_named(recipe, formats[unit.layers[0]])
        for unit in found.units
        if unit.block is not None
    }
    harms = harms_alone(found)
    expected = sum(harms[pair] for pair in chosen.items())
    scored, determinants = asked(run, *needed)
    environment = run.inputs.environment(TRANSFORMERS)
    determinants |= {
        "versions": environment.versions(PACKAGES),
        "chosen": chosen,
        "expected": expected,
    }
    return run.inputs.obtain(
        TOGETHER,
        TogetherRequest(scored, chosen, expected),
        environment,
        title=f"{len(chosen)} units rounded together",
        determinants=determinants,
    )


def _tell(run: "RunContext", whole: TogetherResult) -> None:
    found = whole.kl_divergence
    run.inputs.session.display.line(
        f"  rounded together, layers cost {found.estimate:.3g} nats of KL divergence "
        f"[{found.low:.3g}, {found.high:.3g}]; the sum of what each costs alone is "
        f"{whole.expected_kl_divergence:.3g}"
    )
