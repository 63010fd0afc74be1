"""How vLLM is started for what a plan has chosen.

Flags and defaults are those of vLLM 0.33.0 (``vllm/engine/arg_utils.py``, ``vllm/config``). What
differs from a default, or would with another device or version, is said; so is what a plan's room
for the KV cache depends on: the longest sequence, sequences at once and the share of memory.
"""

from collections.abc import Iterator

from runner.engines.planned import Deployment
from runner.engines.vllm.planned import BFLOAT16_SINCE

_UTILIZATION = 0.92
"""``CacheConfig.gpu_memory_utilization`` by default."""
_OURS = 0.9
"""``Vllm.gpu_memory_utilization`` by default."""
_CACHE_TYPES = {16: "auto", 8: "fp8", 4: "int4_per_token_head"}
"""Types of keys and values by their bits (``vllm/config/cache.py``)."""
_MEASURED = (16, 8)
"""Those that ``Vllm.kv_cache_dtype`` has."""


def serve_command(deployment: Deployment) -> str | None:
    """``vllm serve …``; ``None``: it has no KV cache of such numbers."""
    if deployment.kv_cache_bits not in _CACHE_TYPES:
        return None
    return " ".join(["vllm serve", deployment.model, *_flags(deployment)])


def _flags(deployment: Deployment) -> Iterator[str]:
    if deployment.devices > 1:
        yield f"--tensor-parallel-size {deployment.devices}"
    if deployment.whole_experts:
        yield "--enable-expert-parallel"
    if _is_before_bfloat16(deployment):
        yield "--dtype half"
    yield f"--max-model-len {deployment.context_length}"
    yield f"--max-num-seqs {deployment.sequences}"
    if deployment.prefill_chunk_tokens is not None:
        yield f"--max-num-batched-tokens {deployment.prefill_chunk_tokens}"
    if (kind := _CACHE_TYPES[deployment.kv_cache_bits]) != _CACHE_TYPES[16]:
        yield f"--kv-cache-dtype {kind}"
    if deployment.memory_utilization != _UTILIZATION:
        yield f"--gpu-memory-utilization {deployment.memory_utilization:g}"


def _is_before_bfloat16(deployment: Deployment) -> bool:
    """Whether devices have no bfloat16, which vLLM refuses there."""
    capability = deployment.compute_capability or ""
    return capability[:1].isdigit() and float(capability) < BFLOAT16_SINCE


def measured_with(deployment: Deployment) -> list[str] | None:
    """Fields of ``Vllm``."""
    if deployment.kv_cache_bits not in _MEASURED:
        return None
    overrides = [f"engine.max_model_len={deployment.context_length}"]
    if deployment.devices > 1:
        overrides.insert(0, f"engine.tensor_parallel_size={deployment.devices}")
    if (kind := _CACHE_TYPES[deployment.kv_cache_bits]) != _CACHE_TYPES[16]:
        overrides.append(f"engine.kv_cache_dtype={kind}")
    if _is_before_bfloat16(deployment):
        overrides.append("engine.dtype=float16")
    if deployment.memory_utilization != _OURS:
        overrides.append(f"engine.gpu_memory_utilization={deployment.memory_utilization:g}")
    return overrides
