"""Formats of a recipe's layers: chosen by sensitivities, measured together, chosen again."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner.data.models.tensors import matrix_shapes, report_tensors
from runner.methods.mixed_precision.allocate import Harms, Matrices, allocate, harms_alone
from runner.methods.mixed_precision.beside import chosen_labels, harms_beside, neighbours
from runner.methods.recipe import Recipe
from runner.pipeline.stages.base import TRANSFORMERS
from runner.pipeline.stages.jobs.together import STAGE as TOGETHER
from runner.pipeline.stages.jobs.together import Change, TogetherRequest, TogetherResult
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

    Within a budget the whole is measured too, and the choice made ``sensitivity.passes`` times. Of
    the choices the one whose whole was measured to cost least is taken, and filed with the run.

    Raises:
        StageError: The budget is too small, or ``method.keep`` names no layer.
    """
    directory = run.model.directory
    matrices = Matrices(matrix_shapes(directory), report_tensors(directory).bytes)
    formats = allocate(recipe, found, matrices)
    if not recipe.bits.is_auto:
        return formats
    harms: Harms = harms_alone(found)
    whole, passes = 0.0, run.config.sensitivity.passes
    measured: list[tuple[float, dict[str, str], StageResult[TogetherResult]]] = []
    for left in reversed(range(passes)):
        labels = chosen_labels(recipe, found.units, formats)
        changes = neighbours(recipe, found, labels) if left else []
        expected = whole + sum(harms[pair] for pair in labels.items())
        together = _measured(run, labels, changes, expected)
        if (known := together.known) is None:  # a dry run
            return formats
        whole = known.kl_divergence.estimate
        measured.append((whole, formats, together))
        changed = {(row.unit, row.rounding): row.kl_divergence for row in known.rows}
        harms = harms_beside(labels, whole, changed)
        formats = allocate(recipe, found, matrices, harms=harms)
        if formats in [before for _, before, _ in measured]:
            break
    _, best, together = min(measured, key=lambda one: one[0])
    run.keep(TOGETHER.name, RECIPE, together)
    _tell(run, [together.result for _, _, together in measured])
    return best


def _measured(
    run: "RunContext",
    labels: Mapping[str, str],
    changes: list[tuple[str, str]],
    expected: float,
) -> "StageResult[TogetherResult]":
    """The whole of a choice, and of it with each change, on the sensitivities' text."""
    needed = needed_sensitivity(run.config)
    assert needed is not None, "only a recipe that needs sensitivities chooses by them"
    scored, determinants = asked(run, *needed)
    environment = run.inputs.environment(TRANSFORMERS)
    request = TogetherRequest(
        scored, dict(labels), [Change(*change) for change in changes], expected
    )
    determinants |= {
        "versions": environment.versions(PACKAGES),
        "chosen": request.chosen,
        "changes": changes,
        "expected": expected,
    }
    title = f"{len(labels)} units rounded together"
    return run.inputs.obtain(TOGETHER, request, environment, title=title, determinants=determinants)


def _tell(run: "RunContext", wholes: list[TogetherResult]) -> None:
    """What each choice was expected to cost and what it does."""
    said = (
        f"{one.kl_divergence.estimate:.3g} nats measured, {one.expected_kl_divergence:.3g} expected"
        for one in wholes
    )
    run.inputs.session.display.line(
        f"  layers rounded together, KL divergence by pass: {'; '.join(said)}"
    )
