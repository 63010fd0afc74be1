"""GPTQ through GPTQModel 7.4.0, the maintained successor of AutoGPTQ.

Its AWQ is left out: on two cores without a GPU it takes most of a minute for each block of
a model of 135 million parameters.
"""

import os
from typing import Any

from runner.data.models import generation
from runner.data.models.view import without
from runner.data.models.weights import weight_files
from runner.errors import Refused
from runner.methods.backends import packed
from runner.methods.backends.expert_layers import stored_names
from runner.methods.base import Holder, ModelConfig, QuantizeJob
from runner.methods.holders import matrices_by_holder, skeleton

_SPLITS = frozenset({"glm", "glm4", "phi3"})
"""Families whose fused gate and up projections it takes apart and stores so."""
_UNSAVED = frozenset({"gemma3_text"})
"""Families whose config it cannot save with transformers 5."""


def model_refusal(config: ModelConfig) -> str | None:
    """Why GPTQModel cannot do a model, or no engine could read what it makes of it."""
    family = config.get("model_type")
    if family in _UNSAVED:
        return f"GPTQModel 7.4 cannot save a quantized {family}"
    if family in _SPLITS:
        return (
            f"GPTQModel takes the fused projections of {family} apart under names that no engine "
            "reads"
        )
    return None


def quantize_gptq(
    job: QuantizeJob, *, sym: bool, desc_act: bool, damp_percent: float, true_sequential: bool
) -> None:
    """Write a GPTQ checkpoint.

    Args:
        job: What to quantize; groups' scales are fixed before their columns are reordered.
        sym: A grid symmetric around zero.
        desc_act: Take columns in the order of decreasing activation.
        damp_percent: Added to the Hessian's diagonal, as a fraction of its mean.
        true_sequential: Quantize a block's layers one after the other.
    """
    _require_readable_experts(job)
    group_size = packed.group_size(job)
    static_groups = desc_act and group_size != -1
    # The first version of the format cannot tell a zero point of 0 (it stores one less).
    checkpoint_format = "gptq" if sym else "gptq_v2"
    ignored = _quantize(
        job,
        bits=job.recipe.bits.weight.num_bits,
        group_size=group_size,
        sym=sym,
        desc_act=desc_act,
        static_groups=static_groups,
        # Its own order of columns, which it would take in place of none.
        act_group_aware=False,
        damp_percent=damp_percent,
        true_sequential=true_sequential,
        format=checkpoint_format,
    )
    packed.write_checkpoint(
        job,
        _saved_tensors(job),
        packed.gptq_config(
            job,
            sym=sym,
            static_groups=static_groups,
            damp_percent=damp_percent,
            true_sequential=true_sequential,
            checkpoint_format=checkpoint_format,
            ignored=ignored,
        ),
    )


def _require_readable_experts(job: QuantizeJob) -> None:
    """Refuse fused experts that its checkpoints call otherwise than transformers reads them."""
    model = skeleton(job.model_directory, job.trust_remote_code)
    counts = matrices_by_holder(model)
    kinds = sorted(name for name, holder in counts if holder is Holder.experts)
    names = stored_names(model)
    if kinds and (not names or any(own != stored for own, stored in names.items())):
        other = "method.backend=llm_compressor, or method=gguf" if names else "method=gguf"
        raise Refused(
            f"transformers would not find the experts that GPTQModel takes out of {kinds[0]} "
            f"({type(model).__name__}); try {other}"
        )


def _quantize(job: QuantizeJob, **settings: Any) -> list[str]:
    """Quantize and let GPTQModel save into scratch; returns the layers in blocks it left."""
    import torch

    # Read when it is imported; it cannot do with fewer than two.
    os.environ["GPTQMODEL_CPU_WORKERS"] = str(max(2, job.threads))
    from gptqmodel import GPTQModel
    from gptqmodel.quantization.config import GPTQConfig

    # What it keeps on disk to save memory would be most of the time for small models.
    config = GPTQConfig(offload_to_disk=False, **settings)
    model = GPTQModel.load(
        # It reads settings of ``generate`` that can stop the load.
        str(without(job.model_directory, generation.FILE, job.scratch / "model")),
        config,
        device=job.device,
        dtype=getattr(torch, job.compute_dtype),
        trust_remote_code=job.trust_remote_code,
    )
    ignored = packed.ignored_layers(model.model, job.recipe.method.ignore)
    model.quantize_config.dynamic = packed.skipping(ignored) or None
    blocks = model.model.config.get_text_config().num_hidden_layers

    def tell(layer_idx: int, submodule_finalized: bool) -> None:
        if not submodule_finalized:
            job.progress(layer_idx + 1, blocks, "calibrating and rounding blocks")

    model.layer_callback = tell
    job.progress(0, blocks, "calibrating and rounding blocks")
    model.quantize(
        [{"input_ids": window, "attention_mask": [1] * len(window)} for window in job.windows],
        batch_size=1,
        calibration_sort=None,
        calibration_data_min_length=1,
    )
    model.save(str(job.scratch / "saved"))
    return ignored


def _saved_tensors(job: QuantizeJob) -> dict[str, Any]:
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for path in weight_files(job.scratch / "saved"):
        tensors |= load_file(path)
    return tensors
