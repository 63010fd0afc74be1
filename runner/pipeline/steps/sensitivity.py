"""Step ``sensitivity``: what rounding each layer alone costs, asked for or needed by a recipe."""

from dataclasses import replace

from runner.config.schema.root import Config, StageName
from runner.config.schema.sensitivity import LayerGranularity, Sensitivity
from runner.data.models.tensors import matrix_shapes, report_tensors
from runner.methods.mixed_precision.allocate import UNQUANTIZED, Matrices, allocate
from runner.methods.mixed_precision.rounding import Rounding
from runner.methods.recipe import Recipe
from runner.pipeline.checkpoint import Subject
from runner.pipeline.inputs import TRANSFORMERS, Inputs
from runner.pipeline.session import Obtained, Work
from runner.pipeline.stages.sensitivity import SensitivityRequest, SensitivityResult
from runner.util.serialise import from_json

_PACKAGES = ("torch", "transformers", "compressed-tensors")


def sensitivity(inputs: Inputs, model: Subject, wanted: Sensitivity) -> Obtained:
    """Sensitivities of a model's layers, from the store where they were measured before."""
    text = inputs.text(wanted.text)
    environment = inputs.environment(TRANSFORMERS)
    request = SensitivityRequest(
        model_directory=model.directory,
        text_directory=text.directory,
        grain=wanted.granularity,
        roundings=[
            Rounding(bits, group_size, wanted.sym)
            for bits in sorted(set(wanted.bits))
            for group_size in wanted.group_sizes
        ],
        context_length=wanted.context_length,
        windows=wanted.windows,
        device=inputs.compute.device,
        compute_dtype=inputs.rounding_dtype(model),
        scale_dtype=model.dtype,
        trust_remote_code=inputs.config.model.trust_remote_code,
    )
    determinants = {
        **model.identity,
        "text": text.address.key,
        "grain": wanted.granularity.value,
        "roundings": [rounding.label for rounding in request.roundings],
        "context_length": wanted.context_length,
        "windows": wanted.windows,
        "device": request.device,
        "compute_dtype": request.compute_dtype,
        "versions": environment.versions(_PACKAGES),
    }
    return inputs.session.obtain(
        Work(
            title=f"sensitivity by {wanted.granularity.value}",
            task=inputs.task("sensitivity", request, environment),
            determinants=determinants,
            force=StageName.sensitivity in inputs.config.force,
        )
    )


def needed_sensitivity(config: Config) -> Sensitivity | None:
    """What a recipe must know of layers' sensitivities before it is carried out, if anything.

    They are those of rounding to nearest, whatever the method: measuring its own for every layer
    would take as many calibrations.
    """
    bits = config.bits
    if bits.is_auto:
        widths = [width for width in bits.candidates if width < UNQUANTIZED]
    elif config.method.keep_most_sensitive:
        widths = [bits.weight.num_bits]
    else:
        return None
    return replace(
        config.sensitivity,
        granularity=LayerGranularity.fused,
        bits=widths,
        group_sizes=[config.group_size.label],
        sym=getattr(config.method, "sym", True),
    )


def layer_bits(recipe: Recipe, found: Obtained, model: Subject) -> dict[str, int]:
    """Widths of the recipe's layers, from sensitivities.

    Raises:
        StageError: The budget is too small, or ``method.keep`` names no layer.
    """
    matrices = Matrices(matrix_shapes(model.directory), report_tensors(model.directory).bytes)
    return allocate(recipe, from_json(SensitivityResult, found.result), matrices)
