"""Shared code of the writers of GPTQ and AWQ checkpoints: ignored layers, and saving."""

import json
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from runner.config.schema.group_size import Granularity
from runner.data.models.kept_dtypes import KeptDtypes
from runner.errors import StageError
from runner.methods.base import ModelConfig, QuantizeJob

if TYPE_CHECKING:
    import torch


def family_refusal(library: str, config: ModelConfig, families: Collection[str]) -> str | None:
    """Why a library with a class for each family cannot do a model; ``None`` if it can, or may."""
    family = config.get("model_type")
    if family is None or family in families:
        return None
    return f"{library}, archived, knows no {family} models, only {', '.join(sorted(families))}"


def group_size(job: QuantizeJob) -> int:
    """The recipe's group size as these formats write it: -1 is a scale for a whole channel."""
    granularity = job.recipe.group_size
    if granularity.granularity is Granularity.group:
        assert granularity.size is not None
        return granularity.size
    return -1


def ignored_layers(model: Any, patterns: list[str]) -> list[str]:
    """Names of the linear layers inside a model's blocks that are to stay as they are.

    Layers outside the blocks are left alone by these libraries in any case.

    Args:
        model: A transformers model.
        patterns: ``method.ignore``: names, or ``re:`` and a regular expression.

    Raises:
        StageError: The output embedding is not among them, or a name is no layer's.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    names = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D))
    }
    ignored: set[str] = set()
    for pattern in patterns:
        expression = pattern.removeprefix("re:") if pattern.startswith("re:") else None
        layers = {
            name
            for name in names
            if name == pattern or (expression is not None and re.match(expression, name))
        }
        # The default names the head of most architectures; some call theirs otherwise.
        if not layers and pattern != "lm_head":
            raise StageError(f"method.ignore: no layer matches {pattern}")
        ignored |= layers
    heads = {name for name, module in names.items() if module is head}
    if heads - ignored and "lm_head" not in patterns:
        raise StageError(
            "this backend does not quantize the output embedding: method.ignore must name "
            f"{', '.join(sorted(heads))}"
        )
    return sorted(ignored - heads)


def skipping(layers: list[str]) -> dict[str, dict[str, Any]]:
    """The ``dynamic`` entry of a GPTQ config under which readers take layers for dense ones."""
    return {f"-:^{re.escape(name)}$": {} for name in layers}


def gptq_config(
    job: QuantizeJob,
    *,
    sym: bool,
    static_groups: bool,
    damp_percent: float,
    true_sequential: bool,
    checkpoint_format: str,
    ignored: list[str],
) -> dict[str, Any]:
    """The ``quantization_config`` of a GPTQ checkpoint."""
    config = {
        "quant_method": "gptq",
        "checkpoint_format": checkpoint_format,
        "bits": job.recipe.bits.weight.num_bits,
        "group_size": group_size(job),
        # For readers it says how columns are stored, not in which order they were taken:
        # static groups keep them in place.
        "desc_act": False,
        "static_groups": static_groups,
        "sym": sym,
        "damp_percent": damp_percent,
        "true_sequential": true_sequential,
        "lm_head": False,
    }
    if ignored:
        config["dynamic"] = skipping(ignored)
    return config


def write_checkpoint(
    job: QuantizeJob,
    tensors: dict[str, "torch.Tensor"],
    quantization_config: dict[str, Any],
) -> None:
    """Write weights and config into the checkpoint's directory.

    The config is the original one, so that later versions of transformers read it than the
    one that quantized.
    """
    from safetensors.torch import save_file

    config = json.loads((job.model_directory / "config.json").read_text("utf-8"))
    dtypes = KeptDtypes(job.model_directory)
    stored, seen = {}, set()
    for key, tensor in tensors.items():
        # Tied weights are stored once, under the name that comes first.
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        if tensor.is_floating_point():
            stored[key] = tensor.detach().to(_stored_dtype(key, tensor, dtypes)).cpu().contiguous()
        else:
            stored[key] = tensor.cpu().contiguous()
    save_file(stored, job.checkpoint_directory / "model.safetensors", metadata={"format": "pt"})
    config["quantization_config"] = quantization_config
    (job.checkpoint_directory / "config.json").write_text(
        json.dumps(config, indent=2) + "\n", "utf-8"
    )


def _stored_dtype(key: str, tensor: "torch.Tensor", dtypes: KeptDtypes) -> "torch.dtype":
    import torch

    if key.endswith(".scales"):
        return torch.float16
    return dtypes.of(key) or (tensor.dtype if tensor.itemsize <= 2 else dtypes.usual)
