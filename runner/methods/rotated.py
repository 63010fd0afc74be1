"""What methods share that rotate weights before they round them."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from runner.config.bounds import bounded
from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import compressed_schemes, llm_compressor
from runner.methods.base import ActivationScales, QuantizeJob
from runner.methods.gptq import Gptq, gptq_modifier
from runner.methods.recipe import Recipe
from runner.methods.smoothquant import RoundingMethod

BITS = ("w4a16", *llm_compressor.INTEGER_WEIGHTS, "w8a8", "w4a8", "w4a4")
GROUP_SIZES = ("per_tensor", "per_channel", "g*")


class TransformType(Enum):
    """Matrices that rotate."""

    hadamard = "hadamard"
    """Sylvester's, of widths that are powers of two: engines have kernels for it on GPUs."""
    random_hadamard = "random_hadamard"
    """Of most widths that 4 divides (576, 640, 1536), with signs drawn from a fixed seed."""

    @property
    def library_name(self) -> str:
        """llm-compressor's name."""
        return self.value.replace("_", "-")


@dataclass
class Rotated(Method):
    """Options of every rotation."""

    backend: str = llm_compressor.NAME
    transform_type: TransformType = TransformType.random_hadamard
    transform_block_size: int | None = bounded(None, least=2)
    """Width of the blocks on the diagonal of the matrix; ``None``: as wide as what is rotated."""
    rounding: RoundingMethod = RoundingMethod.rtn
    """How the rotated weights are rounded."""
    sym: bool = True
    """Use a grid symmetric around zero, instead of one with a zero point."""
    activation_scales: ActivationScales = ActivationScales.dynamic

    @property
    def solves_with_hessians(self) -> bool:
        """If GPTQ rounds what was rotated."""
        return self.rounding is RoundingMethod.gptq

    @property
    def has_zero_points(self) -> bool:
        """Unless the grid is symmetric."""
        return not self.sym


def calibration_for(recipe: Recipe) -> Calibration | None:
    """GPTQ looks at text, and static activation scales do; a rotation does not."""
    if recipe.method.solves_with_hessians:
        return recipe.calibration
    return compressed_schemes.calibration_of_activations(recipe)


def rounding_modifier(job: QuantizeJob, options: Rotated) -> Any:
    """llm-compressor's modifier that rounds what has been rotated."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    if options.rounding is RoundingMethod.gptq:
        solver = Gptq(sym=options.sym, activation_scales=options.activation_scales)
        return gptq_modifier(job, solver)
    scheme = compressed_schemes.build_scheme(
        job,
        sym=options.sym,
        observer="memoryless_minmax",
        activation_scales=options.activation_scales,
    )
    return QuantizationModifier(config_groups={"linear": scheme}, ignore=options.ignore)
