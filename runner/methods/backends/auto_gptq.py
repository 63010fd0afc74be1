"""GPTQ through AutoGPTQ 0.7.1, archived, with transformers 4.51."""

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

from runner.data.models.load import load_model
from runner.methods.backends import packed
from runner.methods.backends.legacy_model import legacy_view
from runner.methods.base import ModelConfig, Progress, QuantizeJob

FAMILIES = frozenset(
    (
        "bloom", "codegen", "falcon", "gemma", "gpt2", "gpt_bigcode", "gpt_neox", "gptj",
        "llama", "mistral", "mixtral", "opt", "qwen2",
    )
)  # fmt: skip
"""Values of ``model_type`` that AutoGPTQ has a class for and transformers 4.51 one of its own."""


def model_refusal(config: ModelConfig) -> str | None:
    """Why AutoGPTQ cannot do a model."""
    return packed.family_refusal("AutoGPTQ", config, FAMILIES)


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
    import torch
    from auto_gptq.modeling import GPTQ_CAUSAL_LM_MODEL_MAP, BaseQuantizeConfig

    group_size = packed.group_size(job)
    static_groups = desc_act and group_size != -1
    model = load_model(
        legacy_view(job),
        torch_dtype=getattr(torch, job.compute_dtype),
        trust_remote_code=job.trust_remote_code,
    ).eval()
    ignored = packed.ignored_layers(model, job.recipe.method.ignore)
    # Packed layers get a bias of zeros where they had none.
    invented = {
        f"{name}.bias"
        for name, module in model.named_modules()
        if getattr(module, "bias", True) is None
    }
    config = BaseQuantizeConfig(
        bits=job.recipe.bits.weight.num_bits,
        group_size=group_size,
        damp_percent=damp_percent,
        desc_act=desc_act,
        static_groups=static_groups,
        sym=sym,
        true_sequential=true_sequential,
    )
    # Its own from_pretrained refuses to start without a GPU.
    quantizable = GPTQ_CAUSAL_LM_MODEL_MAP[model.config.model_type](model, False, config)
    examples = [
        {"input_ids": window, "attention_mask": [1] * len(window)} for window in job.windows
    ]
    with _without({model.get_submodule(name) for name in ignored}), _progress(job.progress):
        quantizable.quantize(examples, batch_size=1, cache_examples_on_gpu=False)
    tensors = quantizable.model.state_dict()
    packed.write_checkpoint(
        job,
        {name: tensor for name, tensor in tensors.items() if name not in invented},
        packed.gptq_config(
            job,
            sym=sym,
            static_groups=static_groups,
            damp_percent=damp_percent,
            true_sequential=true_sequential,
            checkpoint_format="gptq",
            ignored=ignored,
        ),
    )


@contextlib.contextmanager
def _without(ignored: set[Any]) -> Iterator[None]:
    """Hide layers from AutoGPTQ, which cannot be told to leave some of a block's alone."""
    from auto_gptq.modeling import _base

    find_layers = _base.find_layers

    def find_others(*args: Any, **kwargs: Any) -> dict[str, Any]:
        layers = find_layers(*args, **kwargs)
        return {name: layer for name, layer in layers.items() if layer not in ignored}

    _base.find_layers = find_others
    try:
        yield
    finally:
        _base.find_layers = find_layers


@contextlib.contextmanager
def _progress(progress: Progress) -> Iterator[None]:
    """Count blocks as AutoGPTQ logs them; it has no callback."""

    class Counter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if match := re.match(r"Start quantizing layer (\d+)/(\d+)", record.getMessage()):
                progress(int(match[1]) - 1, int(match[2]), "calibrating and rounding blocks")

    logger = logging.getLogger("auto_gptq.modeling._base")
    counter = Counter()
    logger.addHandler(counter)
    try:
        yield
    finally:
        logger.removeHandler(counter)
