"""Rounding of what experts are given, where transformers keeps all of a layer's in one parameter.

transformers 5.17 dequantizes such experts and drops what the checkpoint says of their activations,
so that 8-bit floats would be measured with activations of 16 bits.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.data.models.config_json import read_config
from runner.data.models.weights import tensor_headers
from runner.errors import StageError

_SCALED = re.compile(r"layers\.(\d+)\..*experts\.\d+\..*weight_scale$")
"""Names of quantized experts' scales; families differ in what comes between."""
_MODULE = re.compile(r"layers\.(\d+)\.(.*\.)?experts$")


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
    from transformers.integrations.compressed_tensors import get_experts_scheme

    stated = read_config(checkpoint / "config.json")["quantization_config"]
    scheme = get_experts_scheme(QuantizationConfig.model_validate(stated))
    activations = scheme.input_activations
    if activations is None:
        return
    if activations.dynamic is not True:
        raise StageError(
            "engine=hf cannot round activations of experts with static scales, which transformers "
            "does not read; use group_size=per_channel, whose scales are each token's own"
        )
    # The others multiply all experts at once, by functions of their own.
    model.set_experts_implementation("eager")
    for layer in scaled & fused.keys():
        round_products(fused[layer], functools.partial(_rounded, activations))


def round_products(module: Any, rounds: Callable[[Any], Any]) -> None:
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

    module.forward = forward


def _rounded(activations: Any, inputs: Any) -> Any:
    """Inputs, a token a row, on the grid that each token has."""
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp

    if not inputs.numel():
        return inputs
    batch = inputs.unsqueeze(0)  # of two dimensions the library takes all rows for one token
    scale, zero_point = compute_dynamic_scales_and_zp(batch, activations, None)
    return fake_quantize(batch, scale, zero_point, activations).squeeze(0)
