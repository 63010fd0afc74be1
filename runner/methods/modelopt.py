"""NVIDIA Model Optimizer's recipes: AWQ, SmoothQuant, plain rounding (``modelopt``)."""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Optional

from runner.config.schema.bits import Bits, NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.methods.backends import modelopt
from runner.methods.base import Capabilities, Holder, QuantizeJob
from runner.methods.recipe import Recipe


class Algorithm(Enum):
    """How ModelOpt chooses scales; its own names."""

    max = "max"
    """From the largest weight, or activation, of each scale's share."""
    awq_lite = "awq_lite"
    """AWQ: scale up the channels that activations make important (arXiv 2306.00978)."""
    awq_clip = "awq_clip"
    """AWQ's other half: search a range narrower than the weights' own."""
    awq_full = "awq_full"
    """Both."""
    smoothquant = "smoothquant"
    """Move outliers of activations into the weights (arXiv 2211.10438), with an alpha of 1."""


_PRESETS = {"w4a16": Algorithm.awq_lite, "w8a8": Algorithm.smoothquant}
"""What NVIDIA's preset of a format has; of others ``max``."""
_SUITS = {
    "w4a16": (Algorithm.awq_lite, Algorithm.awq_clip, Algorithm.awq_full, Algorithm.max),
    "w8a8": (Algorithm.smoothquant, Algorithm.max),
    "fp4": (Algorithm.max, Algorithm.awq_lite),
    "fp4_a4": (Algorithm.max, Algorithm.awq_lite),
}
"""Algorithms that the formats' checkpoints can express; of others ``max`` alone."""
_GROUPS = {
    "w4a16": ("g*",),
    "w8a16": ("per_channel",),
    "w8a8": ("per_channel",),
    "fp8_e4m3": ("per_channel", "per_tensor"),
    "fp4": ("g16",),
    "fp4_a4": ("g16",),
}
"""Granularity of each format."""


@dataclass
class ModelOpt(Method):
    """Knobs of NVIDIA Model Optimizer."""

    backend: str = "modelopt"
    algorithm: Optional[Algorithm] = None  # noqa: UP045 - OmegaConf reads it
    """How scales are chosen. ``None``: as in NVIDIA's preset of the format, which is AWQ for 4-bit
    integers, SmoothQuant for 8-bit integers on both sides, the largest number for the rest."""

    def chosen(self, bits: Bits) -> Algorithm:
        """The algorithm for a bits scheme."""
        return self.algorithm or _PRESETS.get(bits.label, Algorithm.max)

    def misfit(self, bits: Bits, group_size: GroupSize, device: str) -> tuple[str, str] | None:
        """Algorithms of each format, and what needs CUDA."""
        suits = _SUITS.get(bits.label, (Algorithm.max,))
        if self.chosen(bits) not in suits:
            return (
                f"ModelOpt has no {bits.label} checkpoints of {self.chosen(bits).value}",
                " or ".join(f"method.algorithm={one.value}" for one in suits),
            )
        searches = self.chosen(bits) is not Algorithm.max
        if searches and device == "cpu" and bits.weight.type is NumberType.float:
            return (
                "ModelOpt rounds to 4-bit floats while it searches on a GPU only (its kernel "
                "says: amax must be a CUDA tensor)",
                "method.algorithm=max, or engine.device=cuda",
            )
        return None


class ModelOptMethod:
    """NVIDIA Model Optimizer, written in its layout for Hugging Face directories."""

    config = ModelOpt
    mark = 16
    backends = MappingProxyType(
        {
            modelopt.NAME: Capabilities(
                bits=tuple(_GROUPS),
                group_sizes=("g*",),
                group_sizes_of=_GROUPS,
                checkpoint_format="modelopt",
                packages=("nvidia-modelopt", "transformers", "torch"),
                holders=(Holder.linear,),
                model_refusal=modelopt.model_refusal,
                keeps_scales=False,
            )
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Text is looked at for static scales of activations, and to search those of weights."""
        options, bits, groups = recipe.method, recipe.bits, recipe.group_size
        assert isinstance(options, ModelOpt)
        per_token = bits.label == "fp8_e4m3" and groups.label == "per_channel"
        searches = options.chosen(bits) is not Algorithm.max
        reads = searches or (bits.quantizes_activations and not per_token)
        return recipe.calibration if reads else None

    def quantize(self, job: QuantizeJob) -> None:
        """Calibrate, round, export."""
        options = job.recipe.method
        assert isinstance(options, ModelOpt)
        modelopt.quantize(job, options.chosen(job.recipe.bits).value)


METHOD = ModelOptMethod()
