"""What a plan compares, and its requirements."""

from dataclasses import dataclass, field
from typing import Optional

from runner.config.bounds import BYTES, bounded

USUAL_RECIPES = (
    "bf16", "w8a8", "fp8_e4m3", "w8a16-per_channel", "w4a16-g128", "nvfp4_a4", "q4_k_m",
)  # fmt: skip
"""What a plan compares where it is not told what."""


def _degrees() -> list[int]:
    return [1, 2, 4, 8]


@dataclass
class Plan:
    """Recipes x devices x tensor-parallel degrees, with the load and SLO to meet."""

    recipes: list[str] = field(default_factory=list)
    """Number formats: bf16, w8a8, fp8_e4m3, w4a16-g128, w4a16-g64-asym, mxfp4-experts, q4_k_m …;
    budgets of ``bits=auto``: auto4.5-g64, auto90GB-g64, auto90GB+20GBactive-g64, gguf_auto5,
    gguf_auto90GB. If empty, what the model is published in and the usual ones."""
    devices: list[str] = field(default_factory=list)
    """Options of ``hardware``; ``all`` selects every one. If empty, the configured ``hardware``, or
    all NVIDIA GPUs with a price if that is ``local``."""
    tensor_parallel: list[int] = bounded(factory=_degrees, least=1, most=10**4, filled=True)
    """Numbers of devices that share one replica of the model."""
    context_length: int = bounded(2048, least=2)
    """Final length of a sequence in tokens, including the prompt, which its KV cache must hold.
    Group ``kv_cache`` says in which number format."""
    prompt_tokens: int = bounded(1024, least=1)
    concurrency: int = bounded(1, least=1)
    """Users at once, each of whom sends the next prompt when an answer is complete."""
    max_batch_size: int = bounded(256, least=1)
    """Maximum number of sequences that the engine decodes at once, even if more fit."""
    memory_utilization: float = bounded(0.9, above=True, most=1)
    """Share of a device's visible memory that the engine may use."""
    prefill_chunk_tokens: Optional[int] = bounded(None, least=1)
    """Prompt tokens in one step (``--max-num-batched-tokens``); their activations need memory. If
    ``None``, the engine's default on the device."""
    latency_seconds: Optional[float] = bounded(None, above=True)
    """Longest acceptable time per output token, others' prompts included."""
    ttft_seconds: Optional[float] = bounded(None, above=True)
    """Longest acceptable time to the first token."""
    tokens_per_day: Optional[float] = bounded(None, least=1, most=BYTES)
    """Generated tokens to serve; ``None`` plans one replica of the model."""
    peak_factor: float = bounded(3.0, least=1)
    """Ratio of peak traffic to the day's mean."""
    min_recovery_percent: float = bounded(97.0, most=100)
    """Recovery (accuracy in percent of the unquantized model's) below which a recipe is a quality
    risk."""
    rows: int = bounded(12, least=1)
    """Rows of the table; plan.json and plan.csv contain all."""
    show_measured: bool = False
    """Print predicted and measured times of every benchmarked run, and how far predictions are off;
    ``predictions.csv`` has them in any case."""
