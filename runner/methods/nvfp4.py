"""NVFP4: 4-bit floats in blocks of 16 with fp8 scales and one scale a tensor (NVIDIA)."""

from dataclasses import dataclass

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.methods.backends import llm_compressor
from runner.methods.base import QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class Nvfp4(Method):
    """No options: the format fixes them."""

    backend: str = "llm_compressor"

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str:
        """Its own, with activations or without."""
        return "nvfp4_a4" if bits.quantizes_activations else "nvfp4"


class Nvfp4Method:
    """NVFP4 through llm-compressor."""

    config = Nvfp4
    mark = 8
    backends = llm_compressor.only_backend(bits=("fp4", "fp4_a4"), group_sizes=("g16",))

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Quantized activations have one scale a tensor, found on text."""
        return recipe.calibration if recipe.bits.quantizes_activations else None

    def quantize(self, job: QuantizeJob) -> None:
        """Round and save."""
        from compressed_tensors.quantization import preset_name_to_scheme
        from llmcompressor.modifiers.quantization import QuantizationModifier

        preset = "NVFP4" if job.recipe.bits.quantizes_activations else "NVFP4A16"
        scheme = preset_name_to_scheme(preset, targets=["Linear"])
        ignore = job.recipe.method.ignore
        modifier = QuantizationModifier(config_groups={"linear": scheme}, ignore=ignore)
        llm_compressor.compress(job, [modifier])


METHOD = Nvfp4Method()
