"""Reads experts of compressed-tensors that transformers keeps in one parameter a layer.

transformers 5.17 takes one format for those of all blocks (``get_experts_scheme``), dequantizes
them, and drops what the checkpoint says of their activations, so that blocks of other formats would
not be read, and 8-bit floats be measured with activations of 16 bits.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.data.models.config_json import read_config
from runner.data.models.weights import tensor_headers
from runner.errors import StageError

_SCALED = re.compile(r"layers\.(\d+)\..*experts\.\d+\..*weight_scale$")
"""Names of quantized experts' scales; families differ in what comes between."""
_MODULE = re.compile(r"layers\.(\d+)\.(.*\.)?experts$")


class Attached:
    """A way of computing that was given to a module."""

    def __init__(self, module: Any, forward: Callable[..., Any]) -> None:
        """Give it.

        Args:
            module: Whose.
            forward: The way.
        """
        self._module, self._before = module, vars(module).get("forward")
        module.forward = forward

    def remove(self) -> None:
        """Have the module compute as before."""
        if self._before is None:
            del self._module.forward
        else:
            self._module.forward = self._before


@contextlib.contextmanager
def each_block_in_its_own_format() -> Iterator[None]:
    """Within the block, transformers reads each block's experts in what the checkpoint says."""
    from transformers.core_model_loading import ConversionOps, WeightConverter
    from transformers.integrations.compressed_tensors import DecompressExperts
    from transformers.quantizers.quantizer_compressed_tensors import CompressedTensorsHfQuantizer

    class DecompressBlock(ConversionOps):  # type: ignore[misc]
        def __init__(self, quantizer: Any) -> None:
            self._quantizer = quantizer

        def convert(
            self, input_dict: dict[str, Any], full_layer_name: str = "", **others: Any
        ) -> dict[str, Any]:
            config = self._quantizer.compressor.quantization_config
            scheme = scheme_of_experts(config, full_layer_name)
            if scheme is None:
                return input_dict
            operation = DecompressExperts(self._quantizer, scheme=scheme)
            found: dict[str, Any] = operation.convert(
                input_dict, full_layer_name=full_layer_name, **others
            )
            return found

        reverse_op = DecompressExperts.reverse_op

    def update(self: Any, conversions: list[Any]) -> list[Any]:
        updated = []
        for one in conversions:
            weights = [p for p in one.source_patterns if p.endswith(".weight")]
            is_of_experts = all("experts" in p for p in one.source_patterns)
            if isinstance(one, WeightConverter) and weights and is_of_experts:
                parts = ("$", "_packed$", "_scale$", "_shape$")
                others = [p for p in one.source_patterns if p not in weights]
                read = WeightConverter(
                    source_patterns=[p + part for part in parts for p in weights] + others,
                    target_patterns=one._original_target_patterns,
                    operations=[DecompressBlock(self), *one.operations],
                )
                updated.append(read)
            else:
                updated.append(one)
        return [*updated, *self.get_weight_conversions()]

    original = CompressedTensorsHfQuantizer.update_weight_conversions
    CompressedTensorsHfQuantizer.update_weight_conversions = update
    try:
        yield
    finally:
        CompressedTensorsHfQuantizer.update_weight_conversions = original


def scheme_of_experts(config: Any, parameter: str) -> Any:
    """What the experts of a block are stored in; ``None`` where they are not quantized.

    Args:
        config: compressed-tensors' ``QuantizationConfig``.
        parameter: Name of one of the block's parameters: ``model.layers.0.mlp.experts.down_proj``.
    """
    from compressed_tensors.utils.match import match_name

    stem = parameter[: parameter.rindex("experts") + len("experts")]
    layer = f"{stem}.0.down_proj"
    if any(match_name(layer, one) for one in config.ignore or ()):
        return None
    groups = config.config_groups.values()
    for group in groups:
        if any(match_name(layer, target) for target in group.targets):
            return group
    return next((group for group in groups if "Linear" in group.targets), None)


def round_inputs_of_experts(model: Any, checkpoint: Path) -> None:
    """Have fused experts round what each of their products is given, as the checkpoint says.

    Args:
        model: As transformers has dequantized it.
        checkpoint: A compressed-tensors directory.

    Raises:
        StageError: Their scales are static: transformers reads none of them.
    """
    found_scales = map(_SCALED.search, tensor_headers(checkpoint))
    scaled = {int(found[1]) for found in found_scales if found}
    fused = {
        int(found[1]): module
        for path, module in model.named_modules()
        if (found := _MODULE.search(path)) and hasattr(module, "down_proj")
    }
    if not scaled & fused.keys():
        return
    from compressed_tensors.quantization import QuantizationConfig

    stated = read_config(checkpoint / "config.json")["quantization_config"]
    config = QuantizationConfig.model_validate(stated)
    schemes = {
        layer: scheme_of_experts(config, f"model.layers.{layer}.mlp.experts.down_proj")
        for layer in scaled & fused.keys()
    }
    rounded = {
        layer: scheme.input_activations
        for layer, scheme in schemes.items()
        if scheme is not None and scheme.input_activations is not None
    }
    if not rounded:
        return
    if any(activations.dynamic is not True for activations in rounded.values()):
        raise StageError(
            "engine=hf cannot round activations of experts with static scales, which transformers "
            "does not read; use group_size=per_channel, whose scales are each token's own"
        )
    # The others multiply all experts at once, by functions of their own.
    model.set_experts_implementation("eager")
    for layer, activations in rounded.items():
        round_products(fused[layer], functools.partial(_rounded, activations))


def round_products(module: Any, rounds: Callable[[Any], Any]) -> Attached:
    """Have a module round the first factor of each of its products with a matrix."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Rounding(TorchFunctionMode):
        products = 0

        def __torch_function__(
            self, function: Any, _: Any, given: Any = (), named: dict[str, Any] | None = None
        ) -> Any:
            if function is torch.nn.functional.linear:
                self.products += 1
                with torch._C.DisableTorchFunction():
                    given = (rounds(given[0]), *given[1:])
            return function(*given, **(named or {}))

    original = module.forward

    @functools.wraps(original)
    def forward(*given: Any, **named: Any) -> Any:
        with Rounding() as rounding:
            result = original(*given, **named)
        if not rounding.products:
            raise StageError(
                f"engine=hf cannot round the activations of {type(module).__name__}: use "
                "another engine, or bits=fp8_e4m3_a16"
            )
        return result

    return Attached(module, forward)


def _rounded(activations: Any, inputs: Any) -> Any:
    """Inputs, a token a row, on the grid that each token has."""
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp

    if not inputs.numel():
        return inputs
    batch = inputs.unsqueeze(0)  # of two dimensions the library takes all rows for one token
    scale, zero_point = compute_dynamic_scales_and_zp(batch, activations, None)
    return fake_quantize(batch, scale, zero_point, activations).squeeze(0)
