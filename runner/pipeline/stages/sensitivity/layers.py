"""Formats of a recipe's layers, chosen by their sensitivities."""

from typing import TYPE_CHECKING

from runner.data.models.tensors import matrix_shapes, report_tensors
from runner.methods.mixed_precision.allocate import Matrices, allocate
from runner.methods.recipe import Recipe
from runner.pipeline.stages.sensitivity import SensitivityResult

if TYPE_CHECKING:
    from runner.pipeline.checkpoint import Checkpoint


def layer_formats(recipe: Recipe, found: SensitivityResult, model: "Checkpoint") -> dict[str, str]:
    """Formats of the recipe's layers, from sensitivities.

    Raises:
        StageError: The budget is too small, or ``method.keep`` names no layer.
    """
    matrices = Matrices(matrix_shapes(model.directory), report_tensors(model.directory).bytes)
    return allocate(recipe, found, matrices)
