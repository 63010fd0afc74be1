"""HQQ through its library, written as transformers 4 and published checkpoints have it.

transformers 5.17 has a configuration of HQQ and no code behind it: with one, its load ends in
"QuantizationMethod.HQQ is not available yet". So layers are quantized by the library itself, and
each is stored as its ``HQQLinear`` stores it in safetensors: packed integers (``W_q``), scales and
zero points in float16, and what else is needed to unpack them.
"""

import functools
import json
from typing import Any

from runner.config.schema.calibration import Calibration
from runner.data.models.directory import save_weights
from runner.data.models.kept_dtypes import KeptDtypes
from runner.data.models.load import load_model
from runner.errors import Refused
from runner.methods.backends.linear_layers import dense_layers, quantized_layers
from runner.methods.base import QuantizeJob
from runner.methods.holders import skeleton
from runner.methods.recipe import Recipe

NAME = "hqq"
PACKAGES = ("hqq", "transformers", "torch")
_SHARE_A_BYTE = {4: 2, 2: 4}
"""Rows of integers that are packed into one of bytes, by bits."""
_KAPPA = 1.01
"""The library asks for it, and the solver that it uses does not read it."""


def no_calibration(recipe: Recipe) -> Calibration | None:
    """No text is looked at."""
    return None


def quantize(job: QuantizeJob, *, axis: int, lp_norm: float, beta: float, iters: int) -> None:
    """Find zero points layer by layer, save.

    Args:
        job: What to quantize.
        axis: 1: weights of one output channel that follow each other share a scale; 0: weights
            of many channels do.
        lp_norm: Exponent of the error's norm, at most 1.
        beta: How little the solver shrinks errors: the larger, the less zero points move.
        iters: Steps of the solver at most.

    Raises:
        Refused: A layer's groups do not fill whole bytes.
    """
    _require_packable(job, axis)
    import torch
    from hqq.core.optimize import optimize_weights_proximal
    from hqq.core.quantize import HQQLinear, Quantizer

    model = load_model(job.model_directory, dtype="auto", trust_remote_code=job.trust_remote_code)
    patterns = list(job.recipe.method.ignore)
    layers, skipped = quantized_layers(model, patterns), dense_layers(model, patterns)
    config = _config(job, axis)
    options = {"lp_norm": lp_norm, "beta": beta, "kappa": _KAPPA, "iters": iters}
    Quantizer.optimize_weights = functools.partial(optimize_weights_proximal, opt_params=options)
    for done, name in enumerate(names := list(layers)):
        job.progress(done, len(names), "fitting zero points")
        layer = layers.pop(name)
        layer.to(job.device)
        packed = HQQLinear(layer, config, compute_dtype=torch.float16, device=job.device)
        model.set_submodule(name, packed)
    save_weights(model, job.checkpoint_directory)
    # The library casts biases.
    KeptDtypes(job.model_directory).bring_back(job.checkpoint_directory)
    _state(job, {"quant_method": NAME, "quant_config": config, "skip_modules": skipped})


def _config(job: QuantizeJob, axis: int) -> dict[str, Any]:
    """The library's own for a layer."""
    bits = job.recipe.bits.weight.num_bits
    return {
        "weight_quant_params": {
            "nbits": bits,
            "channel_wise": True,
            "group_size": job.recipe.group_size.size,
            "optimize": True,
            # What the solver starts from, as the library has it.
            "round_zero": bits == 4,
            "axis": axis,
            "view_as_float": False,
        },
        "scale_quant_params": None,
        "zero_quant_params": None,
        "offload_meta": False,
    }


def _require_packable(job: QuantizeJob, axis: int) -> None:
    """Refuse layers whose groups do not share bytes evenly, which the library drops the rest of."""
    together = _SHARE_A_BYTE.get(job.recipe.bits.weight.num_bits, 1)
    size = job.recipe.group_size.size
    assert size is not None
    model = skeleton(job.model_directory, job.trust_remote_code)
    for name, layer in quantized_layers(model, list(job.recipe.method.ignore)).items():
        weights = layer.in_features * layer.out_features
        rows = size if axis == 0 else weights // size
        if weights % size or rows % together:
            raise Refused(
                f"hqq packs {together} groups of {job.recipe.bits.label} together, and {name} "
                f"({layer.out_features} x {layer.in_features}) has no whole number of them in "
                f"groups of {size}; try group_size=g64, or method.ignore"
            )


def _state(job: QuantizeJob, quantization_config: dict[str, Any]) -> None:
    """Say in config.json how the weights are stored."""
    path = job.checkpoint_directory / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config["quantization_config"] = quantization_config
    path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
