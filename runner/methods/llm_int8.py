"""LLM.int8(): int8 products, with outlier columns kept in 16 bits (arXiv 2208.07339)."""

from dataclasses import dataclass
from types import MappingProxyType

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.methods.backends import bitsandbytes as bits_and_bytes
from runner.methods.base import Capabilities, ModelConfig, QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class LlmInt8(Method):
    """Knobs of LLM.int8()."""

    backend: str = "bitsandbytes"
    threshold: float = 6.0
    """Columns with an activation above this are computed in 16 bits (``llm_int8_threshold``)."""

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str:
        """Its own."""
        return "llm_int8"


def _model_refusal(config: ModelConfig) -> str | None:
    if config.get("model_type") == "deepseek_v3":
        return "transformers' DeepSeek-V3 cannot compute with bitsandbytes' 8-bit layers reloaded"
    return None


class LlmInt8Method:
    """LLM.int8() through bitsandbytes."""

    config = LlmInt8
    mark = 6
    backends = MappingProxyType(
        {
            "bitsandbytes": Capabilities(
                bits=("w8a8",),
                group_sizes=("per_channel",),
                checkpoint_format="bitsandbytes",
                packages=bits_and_bytes.PACKAGES,
                holders=bits_and_bytes.HOLDERS,
                model_refusal=_model_refusal,
                emulated_on_cpus="LLM.int8() products",
                # bitsandbytes divides by a row's scale in it.
                rounds_in="float16",
                rounds_on_load=True,
            )
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Looks at no text."""
        return bits_and_bytes.no_calibration(recipe)

    def quantize(self, job: QuantizeJob) -> None:
        """Round while loading, save."""
        from transformers import BitsAndBytesConfig

        options = job.recipe.method
        assert isinstance(options, LlmInt8)
        config = BitsAndBytesConfig(
            load_in_8bit=True,
            llm_int8_threshold=options.threshold,
            llm_int8_skip_modules=list(options.ignore),
        )
        bits_and_bytes.quantize_on_load(job, config)


METHOD = LlmInt8Method()
