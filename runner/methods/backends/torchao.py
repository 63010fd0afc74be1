"""Shared code of what torchao 0.18 implements, through transformers."""

from typing import Any

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import Granularity, GroupSize
from runner.methods.backends.linear_layers import dense_layers
from runner.methods.backends.on_load import LOADS_IN, quantize_on_load
from runner.methods.base import QuantizeJob
from runner.methods.holders import skeleton
from runner.methods.recipe import Recipe

NAME = "torchao"
PACKAGES = ("torchao", "transformers", "torch")
ROUNDS_IN = LOADS_IN


def no_calibration(recipe: Recipe) -> Calibration | None:
    """No text is looked at."""
    return None


def quantize(job: QuantizeJob) -> None:
    """Round while loading, save."""
    from transformers import TorchAoConfig

    recipe = job.recipe
    model = skeleton(job.model_directory, job.trust_remote_code)
    config = TorchAoConfig(
        _scheme(recipe.bits, recipe.group_size),
        modules_to_not_convert=dense_layers(model, list(recipe.method.ignore)),
    )
    quantize_on_load(job, config)


def _scheme(bits: Bits, group_size: GroupSize) -> Any:
    """The library's own description of a recipe."""
    from torchao import quantization

    if bits.weight.num_bits == 4:
        return quantization.Int4WeightOnlyConfig(group_size=group_size.size)
    weights = _granularity(group_size)
    names = {
        "w8a16": "Int8WeightOnlyConfig",
        "w8a8": "Int8DynamicActivationInt8WeightConfig",
        "fp8_e4m3_a16": "Float8WeightOnlyConfig",
    }
    make = getattr(quantization, names[bits.label])
    if bits.quantizes_activations:
        return make(granularity=[_granularity(GroupSize(Granularity.channel)), weights])
    return make(granularity=weights)


def _granularity(group_size: GroupSize) -> Any:
    from torchao.quantization.granularity import PerGroup, PerRow, PerTensor

    if group_size.granularity is Granularity.group:
        return PerGroup(group_size.size)
    return PerTensor() if group_size.granularity is Granularity.tensor else PerRow()
