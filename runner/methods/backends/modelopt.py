"""NVIDIA Model Optimizer 0.47 (ModelOpt): its presets, and its export to Hugging Face directories.

``export_hf_checkpoint`` stores each layer's ``weight``, ``weight_scale`` and, where there are any,
``weight_scale_2`` (of blocks' scales), ``input_scale`` and ``pre_quant_scale`` (factors of the
layer's inputs that no layer before it could take over). ``runner.engines.hf.modelopt`` reads them.
"""

import copy
from typing import Any

from runner.data.models.directory import forget_generation
from runner.data.models.kept_dtypes import KeptDtypes
from runner.data.models.load import load_model
from runner.data.models.weights import weight_files
from runner.errors import StageError
from runner.methods.backends import packed
from runner.methods.base import ModelConfig, QuantizeJob
from runner.methods.recipe import Recipe

NAME = "modelopt"
_PRESETS = {
    "w4a16": "INT4_AWQ_CFG",
    "w8a16": "INT8_WEIGHT_ONLY_CFG",
    "w8a8": "INT8_SMOOTHQUANT_CFG",
    "fp4": "W4A16_NVFP4_CFG",
    "fp4_a4": "NVFP4_DEFAULT_CFG",
    "fp8_e4m3": "FP8_PER_CHANNEL_PER_TOKEN_CFG",
}
"""Constants of ``modelopt.torch.quantization`` by label of the bits scheme."""
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
"""Fields of config.json that tell of a mixture of experts."""
_FP8_PER_TENSOR = "FP8_DEFAULT_CFG"


def model_refusal(config: ModelConfig) -> str | None:
    """Why ModelOpt cannot do a model, or no engine could read what it makes of it."""
    if any((config.get(name) or 0) > 1 for name in _EXPERTS):
        return (
            "ModelOpt 0.47 does not export AWQ of transformers' fused experts (object of type "
            "'QuantMixtralExperts' has no len()), and no engine here rounds activations in front "
            "of each of them"
        )
    return None


def quantize(job: QuantizeJob, algorithm: str) -> None:
    """Write a checkpoint in ModelOpt's layout.

    Args:
        job: What to quantize.
        algorithm: ModelOpt's name of the way to choose scales.

    Raises:
        StageError: ModelOpt left every layer as it was.
    """
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.export import export_hf_checkpoint

    dtype = getattr(torch, job.compute_dtype)
    model = load_model(job.model_directory, dtype=dtype, trust_remote_code=job.trust_remote_code)
    model = model.to(job.device).eval()
    ignored = packed.ignored_layers(model, job.recipe.method.ignore)
    config = _config(job.recipe, algorithm, ignored)
    model = mtq.quantize(model, config, lambda loaded: _calibrate(loaded, job))
    if not any(name.endswith("weight_quantizer") for name, _ in model.named_modules()):
        raise StageError("ModelOpt found no layer of the model that it quantizes")
    job.progress(0, 1, "packing weights")
    forget_generation(model)
    with torch.inference_mode():
        # In the wide type: weights are cast to it before they are rounded.
        export_hf_checkpoint(model, dtype=dtype, export_dir=job.checkpoint_directory)
    _store_as_came(job)


def _config(recipe: Recipe, algorithm: str, ignored: list[str]) -> dict[str, Any]:
    """NVIDIA's preset of a format, with the recipe's groups, algorithm and dense layers."""
    import modelopt.torch.quantization as mtq

    label, group_size = recipe.bits.label, recipe.group_size
    per_tensor = label == "fp8_e4m3" and group_size.label == "per_tensor"
    preset = getattr(mtq, _FP8_PER_TENSOR if per_tensor else _PRESETS[label])
    config: dict[str, Any] = copy.deepcopy(preset)
    for entry in config["quant_cfg"]:
        blocks = (entry.get("cfg") or {}).get("block_sizes") or {}
        if group_size.size is not None and blocks.get(-1) is not None:
            blocks[-1] = group_size.size
    config["quant_cfg"] += [
        {"quantizer_name": f"{name}.*quantizer", "enable": False} for name in ignored
    ]
    config["algorithm"] = algorithm
    return config


def _calibrate(model: Any, job: QuantizeJob) -> None:
    """Send the calibration text through; algorithms do so several times."""
    import torch

    with torch.no_grad():
        for done, window in enumerate(job.windows):
            job.progress(done, len(job.windows), "calibrating")
            model(input_ids=torch.tensor([window], device=job.device), use_cache=False)


def _store_as_came(job: QuantizeJob) -> None:
    """Rewrite what is not quantized in the types that the model's own tensors have.

    Scales stay as ModelOpt writes them: in float32, whatever type the model has.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    dtypes = KeptDtypes(job.model_directory)
    for path in weight_files(job.checkpoint_directory):
        with safe_open(path, framework="pt") as tensors:
            metadata = tensors.metadata()
            content = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        for name, tensor in content.items():
            own = dtypes.of(name)
            if own is not None and tensor.is_floating_point() and tensor.itemsize > 1:
                content[name] = tensor.to(own)
        save_file(content, path, metadata=metadata)
