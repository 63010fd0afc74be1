"""MXFP4: 4-bit floats in blocks of 32 with power-of-two scales (OCP Microscaling, 2023)."""

from dataclasses import dataclass

from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import llm_compressor
from runner.methods.backends.compressed_schemes import build_scheme
from runner.methods.base import QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class Mxfp4(Method):
    """No options: the format fixes them."""

    backend: str = "llm_compressor"


class Mxfp4Method:
    """MXFP4 through llm-compressor."""

    config = Mxfp4
    mark = 9
    backends = llm_compressor.only_backend(bits=("fp4", "fp4_a4"), group_sizes=("g32",))

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Weights' scales need no text."""
        return None

    def quantize(self, job: QuantizeJob) -> None:
        """Round and save."""
        from llmcompressor.modifiers.quantization import QuantizationModifier

        scheme = build_scheme(job, sym=True, observer="memoryless_minmax")
        ignore = job.recipe.method.ignore
        modifier = QuantizationModifier(config_groups={"linear": scheme}, ignore=ignore)
        llm_compressor.compress(job, [modifier])


METHOD = Mxfp4Method()
