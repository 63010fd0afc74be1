"""Loads checkpoints of every format into a transformers model."""

import contextlib
from typing import TYPE_CHECKING, Any

from runner.data.models.config_json import read_config
from runner.data.models.gguf_file import MODEL_CONFIG
from runner.data.models.load import load_model
from runner.data.models.weights import stored_dtype
from runner.engines.base import LoadSpec
from runner.engines.hf import unpacked
from runner.engines.hf.experts import each_block_in_its_own_format, round_inputs_of_experts
from runner.engines.hf.rotations import online_rotations
from runner.engines.hf.spread import dispatched, placement, require_on_gpus

if TYPE_CHECKING:
    import torch

GGUF_FAMILIES = (
    "falcon", "gemma2", "gemma3_text", "gpt2", "llama", "phi3", "qwen2", "qwen3", "qwen3_moe",
)  # fmt: skip
"""Families whose GGUF files transformers 5 reads as llama.cpp does, given their config.json."""


def read_checkpoint(spec: LoadSpec) -> Any:
    """The model, ready to compute on the device that was asked for."""
    import torch
    from transformers import AutoConfig

    options: dict[str, Any] = {}
    dtype = "auto" if spec.dtype == "auto" else getattr(torch, spec.dtype)
    if spec.checkpoint_format in ("gptq", "awq", "auto-round"):
        from runner.engines.hf.dequantize import load_dense

        name = stored_dtype(spec.checkpoint) if spec.dtype == "auto" else spec.dtype
        dense = load_dense(
            spec.checkpoint,
            spec.checkpoint_format,
            getattr(torch, name),
            trust_remote_code=spec.trust_remote_code,
        )
        return dispatched(dense, spec.device).eval()
    if spec.checkpoint_format in unpacked.FORMATS:
        name = stored_dtype(spec.checkpoint) if spec.dtype == "auto" else spec.dtype
        dense = unpacked.load_unpacked(
            spec.checkpoint,
            spec.checkpoint_format,
            getattr(torch, name),
            trust_remote_code=spec.trust_remote_code,
        )
        return dispatched(dense, spec.device).eval()
    if spec.checkpoint_format == "modelopt":
        from runner.engines.hf.modelopt import load_modelopt

        name = stored_dtype(spec.checkpoint) if spec.dtype == "auto" else spec.dtype
        dense = load_modelopt(
            spec.checkpoint, getattr(torch, name), trust_remote_code=spec.trust_remote_code
        )
        return dispatched(dense, spec.device).eval()
    if spec.checkpoint_format == "gguf":
        (file,) = spec.checkpoint.glob("*.gguf")
        if (config := spec.checkpoint / MODEL_CONFIG).exists():
            # From the file alone transformers makes up what it does not say: scaled rotary
            # positions, soft caps, windows.
            options["config"] = AutoConfig.from_pretrained(config)
        model = load_model(spec.checkpoint, gguf_file=file.name, dtype=dtype, **options)
        return dispatched(model, spec.device).eval()
    if spec.checkpoint_format == "compressed-tensors":
        from transformers import CompressedTensorsConfig

        # Unpacked now: at the first forward pass some formats unpack to bfloat16 whatever is asked.
        options["quantization_config"] = CompressedTensorsConfig(dequantize=True)
    if spec.checkpoint_format == "fp8":
        from transformers import FineGrainedFP8Config

        stated = read_config(spec.checkpoint / "config.json")["quantization_config"]
        own = {key: value for key, value in stated.items() if key != "quant_method"}
        # What is passed replaces what the file says of layers that stay dense.
        options["quantization_config"] = FineGrainedFP8Config(**{**own, "dequantize": True})
    rotations = online_rotations(spec.checkpoint)
    with _mended(spec.checkpoint_format):
        model = load_model(
            spec.checkpoint,
            dtype=dtype,
            **placement(spec),
            trust_remote_code=spec.trust_remote_code,
            read_elsewhere=rotations.tensors if rotations else (),
            **options,
        ).eval()
    if not options:  # what is to be dequantized may have been read into the machine's memory
        require_on_gpus(model, spec.device)
    if spec.checkpoint_format == "bitsandbytes" and dtype != "auto":
        _cast_dense(model, getattr(torch, spec.dtype))
    if not options:
        return model
    if spec.checkpoint_format == "compressed-tensors":
        _unwrap(model)
        round_inputs_of_experts(model, spec.checkpoint)
    if rotations:
        rotations.attach(model)
    return dispatched(model if dtype == "auto" else model.to(dtype), spec.device)


def _mended(checkpoint_format: str) -> contextlib.AbstractContextManager[None]:
    """What transformers lacks to read a format."""
    if checkpoint_format == "compressed-tensors":
        return each_block_in_its_own_format()
    return contextlib.nullcontext()


def _cast_dense(model: Any, dtype: "torch.dtype") -> None:
    """Give what is not quantized the type that was asked for.

    transformers leaves tensors beside bitsandbytes' as they are stored if it renames them.
    """
    for tensor in model.parameters():
        if tensor.is_floating_point() and tensor.dtype.itemsize == 2:
            tensor.data = tensor.data.to(dtype)


def _unwrap(model: Any) -> None:
    """Give layers plain parameters, and those that round no activations their own forward back.

    Where compressed-tensors has dequantized, it leaves parameters behind an offloading cache, and
    wrappers that have nothing left to do but take a fifth of a small model's time and more.
    """
    from compressed_tensors.offload import remove_dispatch
    from compressed_tensors.quantization import QuantizationStatus

    remove_dispatch(model, onload_tensors=True)
    for module in model.modules():
        scheme = getattr(module, "quantization_scheme", None)
        if (
            scheme is not None
            and scheme.input_activations is None
            and scheme.output_activations is None
            and module.quantization_status >= QuantizationStatus.COMPRESSED
        ):
            vars(module).pop("forward", None)
