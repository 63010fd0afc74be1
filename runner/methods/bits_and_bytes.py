"""What the methods carried out by bitsandbytes have in common."""

import logging
from typing import Any

from runner.config.calibration import Calibration
from runner.methods.base import Holder, QuantizeJob
from runner.models.directory import save_weights
from runner.models.kept_dtypes import KeptDtypes
from runner.models.load import load_model
from runner.recipe import Recipe

PACKAGES = ("bitsandbytes", "transformers", "torch")
HOLDERS = (Holder.linear, Holder.conv1d)
"""What transformers' integration replaces: classes derived from nn.Linear are passed over."""


def no_calibration(recipe: Recipe) -> Calibration | None:
    """No text is looked at."""
    return None


def quantize_on_load(job: QuantizeJob, quantization_config: Any) -> None:
    """Load through transformers, which quantizes, and save.

    Nothing is computed with the model before it is saved: on a CPU the first forward pass
    repacks 4-bit weights in place, and a checkpoint saved after that is silently broken.
    """
    import torch

    # It warns once for every matrix product in bfloat16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    job.progress(0, 1, "rounding while loading")
    model = load_model(
        job.model_directory,
        quantization_config=quantization_config,
        dtype=torch.bfloat16,
        device_map={"": job.device},
        trust_remote_code=job.trust_remote_code,
    )
    save_weights(model, job.checkpoint_directory)
    KeptDtypes(job.model_directory).bring_back(job.checkpoint_directory)
    job.progress(1, 1, "rounding while loading")
