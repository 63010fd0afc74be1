"""NVFP4: 4-bit floats in blocks of 16 with fp8 scales and one scale a tensor (NVIDIA)."""

from dataclasses import dataclass

from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import llm_compressor
from runner.methods.backends.compressed_schemes import build_scheme, calibration_of_activations
from runner.methods.base import QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class Nvfp4(Method):
    """No options: the format fixes them."""

    backend: str = "llm_compressor"


class Nvfp4Method:
    """NVFP4 through llm-compressor."""

    config = Nvfp4
    mark = 8
    backends = llm_compressor.only_backend(bits=("fp4", "fp4_a4"), group_sizes=("g16",))

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Quantized activations have one scale a tensor, found on text."""
        return calibration_of_activations(recipe)

    def quantize(self, job: QuantizeJob) -> None:
        """Round and save."""
        from llmcompressor.modifiers.quantization import QuantizationModifier

        scheme = build_scheme(job, sym=True, observer="memoryless_minmax")
        ignore = job.recipe.method.ignore
        modifier = QuantizationModifier(config_groups={"linear": scheme}, ignore=ignore)
        llm_compressor.compress(job, [modifier])


METHOD = Nvfp4Method()
