"""Shared code of the methods that bitsandbytes implements."""

import logging
from typing import Any

from runner.config.schema.calibration import Calibration
from runner.data.models.coverage import matches
from runner.errors import Refused
from runner.methods.backends import on_load
from runner.methods.base import Holder, QuantizeJob
from runner.methods.holders import skeleton
from runner.methods.recipe import Recipe

PACKAGES = ("bitsandbytes", "transformers", "torch")
HOLDERS = (Holder.linear, Holder.conv1d)
"""What transformers' integration replaces: classes derived from nn.Linear are passed over."""
LOADS_IN = on_load.LOADS_IN


def no_calibration(recipe: Recipe) -> Calibration | None:
    """No text is looked at."""
    return None


def require_whole_blocks(job: QuantizeJob, size: int) -> None:
    """Refuse layers whose rows are no whole number of blocks, on a CPU.

    bitsandbytes' kernels for CPUs take a checkpoint of such for one of whole rows, and fail.

    Raises:
        Refused: A layer's inputs are no multiple of the size.
    """
    import torch

    if job.device != "cpu":
        return
    model = skeleton(job.model_directory, job.trust_remote_code)
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if type(module) is not torch.nn.Linear or module is head:
            continue
        if module.in_features % size and not matches(name, job.recipe.method.ignore):
            raise Refused(
                f"bitsandbytes computes with 4-bit layers on a CPU only where blocks of {size} "
                f"divide their inputs: {name} has {module.in_features}; try "
                "method=rtn bits=w4a16 with a group_size that divides it, or method.ignore"
            )


def quantize_on_load(job: QuantizeJob, quantization_config: Any) -> None:
    """Load through transformers, which quantizes, and save.

    Nothing is computed with the model before it is saved: on a CPU the first forward pass
    repacks 4-bit weights in place, and a checkpoint saved after that is silently broken.
    """
    # It warns once for every matrix product in bfloat16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    on_load.quantize_on_load(job, quantization_config)
