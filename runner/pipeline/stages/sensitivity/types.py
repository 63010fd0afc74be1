"""Files whose types a recipe's tensors may get, for methods that have types of their own."""

from typing import TYPE_CHECKING

from runner.config.schema.bits import Bits
from runner.data.models.expert_names import expert_layers
from runner.data.models.tensors import matrix_shapes
from runner.errors import StageError
from runner.methods import capabilities_of, used_recipe
from runner.methods.backends.gguf_types import TensorType
from runner.pipeline.stages.jobs.uniform import STAGE as UNIFORM
from runner.pipeline.stages.jobs.uniform import StoredTensor, UniformResult

if TYPE_CHECKING:
    from runner.pipeline.context import RunContext
    from runner.pipeline.stage_job import StageResult


def types_of_run(run: "RunContext") -> "dict[str, StageResult[UniformResult]] | None":
    """The model in each type that the recipe may give a tensor; ``None`` where it names none."""
    recipe = used_recipe(run.config)
    layer_types = capabilities_of(recipe.method).layer_types
    if not recipe.bits.is_auto or layer_types is None:
        return None
    shapes = matrix_shapes(run.model.directory)
    widths = {inputs for _, inputs in shapes.values()}
    mixture = bool(expert_layers(shapes))
    names = layer_types(recipe.method, recipe.bits, widths, mixture)
    files = UNIFORM.of_types(run, recipe, [TensorType(name) for name in names])
    if all(made.known is not None for made in files.values()):
        _require_room(recipe.bits, [made.result for made in files.values()])
    return files


def _require_room(bits: Bits, files: list[UniformResult]) -> None:
    """See that the budget is not below all choices, before the long measuring.

    Raises:
        StageError: It is.
    """
    sizes: dict[str, StoredTensor] = {}
    for one in files:
        for name, stored in one.tensors.items():
            if name not in sizes or stored.bytes < sizes[name].bytes:
                sizes[name] = stored
    least = sum(one.bytes for one in sizes.values())
    average = 8 * least / sum(one.weights for one in sizes.values())
    if bits.bytes is not None and least > bits.bytes:
        raise StageError(
            f"bits.bytes={bits.bytes} is too small: matrices alone have {least} bytes with the "
            "narrowest of bits.candidates that fit them"
        )
    if bits.average is not None and average > bits.average:
        raise StageError(
            f"bits.average={bits.average:g} is too small: the narrowest of bits.candidates that "
            f"fit make {average:.3f}"
        )
