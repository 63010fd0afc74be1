"""8-bit floats for weights, activations and, if asked for, the KV cache (arXiv 2209.05433)."""

from dataclasses import dataclass

from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import compressed_schemes, llm_compressor
from runner.methods.base import ActivationScales, QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class Fp8(Method):
    """Knobs of fp8."""

    backend: str = "llm_compressor"
    activation_scales: ActivationScales = ActivationScales.dynamic
    kv_cache: bool = False
    """Store keys and values as E4M3 too, with one scale per layer from calibration text."""


class Fp8Method:
    """fp8 through llm-compressor. E5M2 is not among the formats of compressed-tensors."""

    config = Fp8
    mark = 5
    backends = llm_compressor.only_backend(
        bits=("fp8_e4m3", "fp8_e4m3_a16"),
        group_sizes=("per_channel", "per_tensor", "g32", "b*"),
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Static scales, and those of the KV cache, are found on text."""
        if getattr(recipe.method, "kv_cache", False):
            return recipe.calibration
        return compressed_schemes.calibration_of_activations(recipe)

    def quantize(self, job: QuantizeJob) -> None:
        """Round and save."""
        from llmcompressor.modifiers.quantization import QuantizationModifier

        options = job.recipe.method
        assert isinstance(options, Fp8)
        scheme = compressed_schemes.build_scheme(
            job,
            sym=True,
            observer="memoryless_minmax",
            activation_scales=options.activation_scales,
        )
        cache = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
        modifier = QuantizationModifier(
            config_groups={"linear": scheme},
            ignore=options.ignore,
            kv_cache_scheme={**cache, "dynamic": False} if options.kv_cache else None,
        )
        llm_compressor.compress(job, [modifier])


METHOD = Fp8Method()
