"""Round to nearest: every weight becomes the closest value of its grid."""

from dataclasses import dataclass
from enum import Enum

from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import compressed_schemes, llm_compressor
from runner.methods.base import ActivationScales, QuantizeJob
from runner.methods.recipe import Recipe


class Observer(Enum):
    """How a grid's range is chosen."""

    minmax = "minmax"
    """From the smallest to the largest weight."""
    mse = "mse"
    """The range with the least squared rounding error."""


@dataclass
class Rtn(Method):
    """Knobs of round to nearest."""

    backend: str = "llm_compressor"
    sym: bool = True
    """Use a grid symmetric around zero, instead of one with a zero point."""
    observer: Observer = Observer.minmax
    activation_scales: ActivationScales = ActivationScales.dynamic

    @property
    def has_zero_points(self) -> bool:
        """Unless the grid is symmetric."""
        return not self.sym


class RtnMethod:
    """Round to nearest through llm-compressor."""

    config = Rtn
    mark = 1
    backends = llm_compressor.only_backend(
        bits=("w4a16", *llm_compressor.INTEGER_WEIGHTS),
        group_sizes=("per_tensor", "per_channel", "g*"),
        formats=compressed_schemes.FORMATS,
        mixes=True,
        plain_rounding=True,
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Only static scales of activations, and NVFP4's, look at text."""
        return compressed_schemes.calibration_of_activations(recipe)

    def quantize(self, job: QuantizeJob) -> None:
        """Round and save."""
        from llmcompressor.modifiers.quantization import QuantizationModifier

        options = job.recipe.method
        assert isinstance(options, Rtn)
        observer = {Observer.minmax: "memoryless_minmax", Observer.mse: "memoryless_mse"}
        groups = llm_compressor.build_groups(
            job,
            sym=options.sym,
            observer=observer[options.observer],
            activation_scales=options.activation_scales,
        )
        llm_compressor.compress(job, [QuantizationModifier(**groups)])


METHOD = RtnMethod()
