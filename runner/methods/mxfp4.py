"""MXFP4: 4-bit floats in blocks of 32 with power-of-two scales (OCP Microscaling, 2023).

With 4-bit activations llm-compressor gave no result on a CPU within minutes: weights only.
"""

from dataclasses import dataclass

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.methods.backends import llm_compressor
from runner.methods.base import QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class Mxfp4(Method):
    """No options: the format fixes them."""

    backend: str = "llm_compressor"

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str:
        """Its own."""
        return "mxfp4"


class Mxfp4Method:
    """MXFP4 through llm-compressor."""

    config = Mxfp4
    mark = 9
    backends = llm_compressor.only_backend(bits=("fp4",), group_sizes=("g32",))

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Weights' scales need no text."""
        return None

    def quantize(self, job: QuantizeJob) -> None:
        """Round and save."""
        from compressed_tensors.quantization import preset_name_to_scheme
        from llmcompressor.modifiers.quantization import QuantizationModifier

        preset = "MXFP4A16"
        scheme = preset_name_to_scheme(preset, targets=["Linear"])
        ignore = job.recipe.method.ignore
        modifier = QuantizationModifier(config_groups={"linear": scheme}, ignore=ignore)
        llm_compressor.compress(job, [modifier])


METHOD = Mxfp4Method()
