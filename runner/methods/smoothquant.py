"""SmoothQuant: move activations' outliers into the weights, then round both to 8 bits.

arXiv 2211.10438.
"""

from dataclasses import dataclass
from enum import Enum

from runner.config.bounds import bounded
from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import llm_compressor
from runner.methods.backends.compressed_schemes import build_scheme
from runner.methods.base import ActivationScales, QuantizeJob
from runner.methods.gptq import Gptq, gptq_modifier
from runner.methods.recipe import Recipe


class RoundingMethod(Enum):
    """How the smoothed weights are rounded."""

    rtn = "rtn"
    gptq = "gptq"


@dataclass
class SmoothQuant(Method):
    """Knobs of SmoothQuant."""

    backend: str = "llm_compressor"
    strength: float = bounded(0.8, most=1)
    """Share of an outlier that moves into the weights: alpha in the paper, between 0 and 1."""
    rounding: RoundingMethod = RoundingMethod.rtn
    activation_scales: ActivationScales = ActivationScales.dynamic

    @property
    def solves_with_hessians(self) -> bool:
        """If GPTQ rounds what was smoothed."""
        return self.rounding is RoundingMethod.gptq


class SmoothQuantMethod:
    """SmoothQuant through llm-compressor."""

    config = SmoothQuant
    mark = 10
    backends = llm_compressor.only_backend(
        bits=("w8a8",), group_sizes=("per_channel", "per_tensor"), keeps_scales=False
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Activations' ranges are found on the calibration text."""
        return recipe.calibration

    def quantize(self, job: QuantizeJob) -> None:
        """Smooth, round, save."""
        from llmcompressor.modifiers.quantization import QuantizationModifier

        from runner.methods.backends.smoothing import smoothquant_modifier

        options = job.recipe.method
        assert isinstance(options, SmoothQuant)
        smooth = smoothquant_modifier(smoothing_strength=options.strength)
        if options.rounding is RoundingMethod.gptq:
            solver = Gptq(ignore=options.ignore, activation_scales=options.activation_scales)
            llm_compressor.compress(job, [smooth, gptq_modifier(job, solver)])
            return
        scheme = build_scheme(
            job,
            sym=True,
            observer="memoryless_minmax",
            activation_scales=options.activation_scales,
        )
        rounding = QuantizationModifier(config_groups={"linear": scheme}, ignore=options.ignore)
        llm_compressor.compress(job, [smooth, rounding])


METHOD = SmoothQuantMethod()
