"""Quantization that transformers carries out while it loads a model."""

from typing import Any

from runner.data.models.directory import save_weights
from runner.data.models.kept_dtypes import KeptDtypes
from runner.data.models.load import load_model
from runner.methods.base import QuantizeJob
from runner.util.bars import bars_told

LOADS_IN = "bfloat16"
"""What weights pass through on their way: checkpoints say it, and it is what readers expect."""


def quantize_on_load(job: QuantizeJob, quantization_config: Any) -> None:
    """Load through transformers, which quantizes, and save before anything is computed."""
    import torch

    what = "rounding while loading"
    job.progress(0, 1, what)

    def tell(bar: str, done: int, total: int) -> None:
        if bar.startswith("Loading"):
            job.progress(done, total, what)

    with bars_told(tell):
        model = load_model(
            job.model_directory,
            quantization_config=quantization_config,
            dtype=getattr(torch, LOADS_IN),
            device_map={"": job.device},
            trust_remote_code=job.trust_remote_code,
        )
    save_weights(model, job.checkpoint_directory)
    KeptDtypes(job.model_directory).bring_back(job.checkpoint_directory)
