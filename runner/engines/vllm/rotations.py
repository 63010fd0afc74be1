"""What vLLM does with rotations that a checkpoint leaves to its reader, by the source of 0.33.0."""

from pathlib import Path

from runner.data.models.config_json import read_config
from runner.engines.base import CheckpointFacts, rotated_at_run_time

_BIASES = ("attention_bias", "mlp_bias", "qkv_bias")
_FAMILIES_WITH_BIAS = ("qwen2", "qwen2_moe")
"""Families whose projections add a bias that no field of their config.json tells of."""


def rotates(checkpoint: CheckpointFacts) -> bool:
    """Whether layers' inputs have to be rotated while the model runs."""
    method = checkpoint.method
    if method is not None and method.rotates_at_run_time:
        return True
    return bool(rotated_at_run_time(checkpoint.config))


def reason_against_rotations(checkpoint: CheckpointFacts) -> str | None:
    """Why vLLM cannot rotate a checkpoint's inputs; ``None`` where it can, or has none to rotate.

    Its transform takes no bias (an assertion), and shares no layers between GPUs. On a CPU it works
    with a patch (``vllm_cpu_rotations``).
    """
    if not rotates(checkpoint):
        return None
    config = checkpoint.config
    biased = [name for name in _BIASES if config.get(name)]
    if biased or config.get("model_type") in _FAMILIES_WITH_BIAS:
        return "vLLM rotates the inputs of no layer that adds a bias, as this model's do"
    return None


def reason_against_serving(checkpoint: Path, device: str) -> str | None:
    """Why its server, which our patches do not reach, cannot serve a checkpoint on a device."""
    path = checkpoint / "config.json"
    if device != "cpu" or not path.exists() or not rotated_at_run_time(read_config(path)):
        return None
    return (
        "vLLM's server rotates layers' inputs on GPUs only: use method=spinquant with "
        "method.rotations=[R1,R2], which are fused into the weights"
    )
