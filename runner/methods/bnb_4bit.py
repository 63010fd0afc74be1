"""Four-bit floats in blocks of 64 through bitsandbytes (QLoRA, arXiv 2305.14314)."""

from dataclasses import dataclass
from types import MappingProxyType

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.engine import Dtype
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.methods.backends import bitsandbytes as bits_and_bytes
from runner.methods.base import Capabilities, QuantizeJob
from runner.methods.recipe import Recipe

_BLOCK = 64
"""Weights that share a scale."""


@dataclass
class Bnb4bit(Method):
    """Knobs of bitsandbytes' 4-bit weights."""

    backend: str = "bitsandbytes"
    double_quant: bool = False
    """Quantize the scales too: saves 0.37 bits per weight (``bnb_4bit_use_double_quant``)."""
    compute_dtype: Dtype = Dtype.bfloat16
    """Arithmetic of matrix products stated in the checkpoint (``bnb_4bit_compute_dtype``)."""

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str:
        """Its own."""
        return "nf4-dq" if self.double_quant else "nf4"


class Bnb4bitMethod:
    """NF4 and FP4 through bitsandbytes."""

    config = Bnb4bit
    mark = 3
    backends = MappingProxyType(
        {
            "bitsandbytes": Capabilities(
                bits=("nf4", "fp4"),
                group_sizes=("g64",),
                checkpoint_format="bitsandbytes",
                packages=bits_and_bytes.PACKAGES,
                holders=bits_and_bytes.HOLDERS,
                emulated_on_cpus="4-bit floats",
                rounds_in=bits_and_bytes.LOADS_IN,
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
        assert isinstance(options, Bnb4bit)
        dtype = Dtype.bfloat16 if options.compute_dtype is Dtype.auto else options.compute_dtype
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=job.recipe.bits.label,
            bnb_4bit_use_double_quant=options.double_quant,
            bnb_4bit_compute_dtype=dtype.value,
            llm_int8_skip_modules=list(options.ignore),
        )
        bits_and_bytes.require_whole_blocks(job, _BLOCK)
        bits_and_bytes.quantize_on_load(job, config)


METHOD = Bnb4bitMethod()
