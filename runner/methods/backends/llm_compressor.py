"""Shared code of the methods that llm-compressor implements."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runner.config.schema.layer_format import LayerFormat
from runner.data.models.directory import save_weights
from runner.data.models.expert_names import expert_name, pattern_of
from runner.data.models.kept_dtypes import KeptDtypes
from runner.data.models.load import load_model
from runner.data.models.weights import weight_files
from runner.methods.backends.compressed_schemes import build_scheme
from runner.methods.base import (
    ActivationScales,
    Capabilities,
    Holder,
    Onloading,
    Progress,
    QuantizeJob,
)
from runner.util.bars import bars_told

NAME = "llm_compressor"
PACKAGES = ("llmcompressor", "compressed-tensors", "transformers", "torch")
INTEGER_WEIGHTS = tuple(f"w{bits}a16" for bits in (8, 4, 3, 2, 5, 6, 7))
_SCALE_DTYPES = ("torch.bfloat16", "torch.float16", "torch.float32")


def capabilities(
    bits: tuple[str, ...],
    group_sizes: tuple[str, ...],
    *,
    formats: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    mixes: bool = False,
    keeps_scales: bool = True,
    plain_rounding: bool = False,
    onloading: Onloading | None = None,
    cannot: tuple[tuple[str, Any, str], ...] = (),
) -> Capabilities:
    """Capabilities through llm-compressor, which always writes compressed-tensors.

    Args:
        bits: Labels of bits schemes.
        group_sizes: Their granularities.
        formats: Other bits schemes that it makes, each with its granularities.
        mixes: See ``Capabilities``, as the others.
        keeps_scales: See there.
        plain_rounding: See there.
        onloading: See there.
        cannot: See there.
    """
    return Capabilities(
        (*bits, *formats),
        group_sizes,
        "compressed-tensors",
        PACKAGES,
        group_sizes_of=formats,
        mixes=mixes,
        # Classes derived from nn.Linear (FalconLinear) are rounded, but cannot be read back packed.
        holders=(Holder.linear, Holder.experts),
        keeps_scales=keeps_scales,
        plain_rounding=plain_rounding,
        onloading=onloading or Onloading(),
        cannot=cannot,
    )


def only_backend(
    bits: tuple[str, ...], group_sizes: tuple[str, ...], **options: Any
) -> Mapping[str, Capabilities]:
    """The backends of a method that llm-compressor alone carries out."""
    return MappingProxyType({NAME: capabilities(bits, group_sizes, **options)})


def build_groups(job: QuantizeJob, **options: Any) -> dict[str, Any]:
    """Arguments of a modifier: a scheme for each format among the layers, and what is ignored.

    Args:
        job: The work, whose recipe may give layers formats of their own.
        options: Of ``build_scheme``.
    """
    recipe = job.recipe
    if recipe.layer_formats is None:
        scheme = build_scheme(job, **options)
        return {"config_groups": {"linear": scheme}, "ignore": job.recipe.method.ignore}
    layers: dict[str, list[str]] = {}
    formats: dict[str, LayerFormat] = {}
    for layer, name in recipe.layer_formats.items():
        if (found := recipe.format_named(name)) is not None:
            layers.setdefault(found.label, []).append(layer)
            formats[found.label] = found
    groups = {
        label: build_scheme(
            job, layer_format=formats[label], targets=_targets(layers[label]), **options
        )
        for label in sorted(formats)
    }
    # Layers left as they are are simply no group's: whatever else is ignored stays so.
    return {"config_groups": groups, "ignore": job.recipe.method.ignore}


def _targets(layers: list[str]) -> tuple[str, ...]:
    """What selects layers: experts of a block, whose names differ by reader, an expression."""
    names = ((layer, expert_name(layer)) for layer in layers)
    return tuple(
        dict.fromkeys(layer if name is None else pattern_of(name.experts) for layer, name in names)
    )


def gptq_modifier(
    job: QuantizeJob,
    *,
    sym: bool,
    desc_act: bool,
    damp_percent: float,
    block_size: int,
    activation_scales: ActivationScales,
) -> Any:
    """llm-compressor's GPTQ; the options are those of method ``gptq``."""
    from llmcompressor.modifiers.quantization import GPTQModifier

    order = "static" if desc_act else None
    return GPTQModifier(
        **build_groups(
            job,
            sym=sym,
            observer="memoryless_minmax",
            activation_scales=activation_scales,
            activation_order=order,
        ),
        dampening_frac=damp_percent,
        block_size=block_size,
        # Left out, the modifier would put its own default over the scheme's.
        actorder=order,
    )


def compress(job: QuantizeJob, modifiers: list[Any]) -> None:
    """Run llm-compressor's one-shot flow and write a compressed-tensors checkpoint.

    The model is left in the machine's memory: llm-compressor takes the block that it works on to
    the GPU, if this process has one, and brings it back. What is on the GPU already stays there.
    """
    import torch
    from llmcompressor import oneshot

    from runner.methods.backends.expert_layers import expert_names, rename_experts

    names = expert_names(job, modifiers)
    # Weights are held in float32 where the device computes in it, and stored as they came.
    compute_dtype = getattr(torch, job.compute_dtype)
    model = load_model(
        job.model_directory, dtype=compute_dtype, trust_remote_code=job.trust_remote_code
    )
    arguments: dict[str, Any] = {
        "model": model,
        "recipe": modifiers,
        "log_dir": None,
        "trust_remote_code_model": job.trust_remote_code,
    }
    if job.windows:
        arguments |= {
            "dataset": _dataset(job.windows),
            "num_calibration_samples": len(job.windows),
            "max_seq_length": max(map(len, job.windows)),
            "shuffle_calibration_samples": False,
        }
    else:
        # Anything but a name: it would read the tokenizer, which nobody asks without text.
        arguments["processor"] = object()
    job.progress(0, 1, "rounding weights")
    with bars_told(_progress_of(job.progress)):
        oneshot(**arguments)
        save_weights(model, job.checkpoint_directory, save_compressed=True)
    del model, arguments
    renamed = rename_experts(job.checkpoint_directory, names)
    store_as_came(job.checkpoint_directory, KeptDtypes(job.model_directory), renamed)


def _progress_of(progress: Progress) -> Callable[[str, int, int], None]:
    """Tell blocks as llm-compressor goes through them, and what it packs; it has no callback."""
    latest = (0, 1, "rounding weights")

    def tell(bar: str, done: int, total: int) -> None:
        nonlocal latest
        # Of each block's bars, such as "(3/31): Calibrating" over windows, only the block counts.
        if block := re.match(r"\((\d+)/(\d+)\):", bar):
            latest = (int(block[1]) - 1, int(block[2]), "calibrating and rounding blocks")
        elif bar.startswith("Compressing"):
            latest = (done, total, "packing weights")
        # Others, of a search within a block, say that it goes on.
        progress(*latest)

    return tell


def store_as_came(
    checkpoint: Path, dtypes: KeptDtypes, renamed: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Rewrite tensors that were held wider in the types that the model's own have.

    What only the checkpoint has, its scales, is stored in the usual one of them.

    Args:
        checkpoint: Directory of safetensors files.
        dtypes: The model's.
        renamed: New names of tensors, by the old ones.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    for path in weight_files(checkpoint):
        with safe_open(path, framework="pt") as tensors:
            metadata = tensors.metadata()
            names = tensors.keys()
            content = {renamed.get(name, name): tensors.get_tensor(name) for name in names}
        for name, tensor in content.items():
            if not tensor.dtype.is_floating_point or tensor.dtype.itemsize == 1:
                continue
            dtype = dtypes.of(name)
            if dtype is not None:
                content[name] = tensor.to(dtype)
            # A global scale holds the range that a narrower type's scales do not have.
            elif tensor.dtype.itemsize == 4 and not name.endswith("global_scale"):
                content[name] = tensor.to(dtypes.usual)
        save_file(content, path, metadata=metadata)
    config_path = checkpoint / "config.json"
    config = json.loads(config_path.read_text("utf-8"))
    for group in config.get("quantization_config", {}).get("config_groups", {}).values():
        # A 16-bit type only guided the rounding; readers of other versions do not know it.
        if group["weights"].get("scale_dtype") in _SCALE_DTYPES:
            del group["weights"]["scale_dtype"]
    config_path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _dataset(windows: list[list[int]]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict(
        {"input_ids": windows, "attention_mask": [[1] * len(window) for window in windows]}
    )
