"""How vLLM's server is started, for what a plan has chosen and for what was measured.

Flags and defaults are those of vLLM 0.33.0 (``vllm/engine/arg_utils.py``, ``vllm/config``). What
differs from a default, or would with another device or version, is said; so is what a plan's room
for the KV cache depends on: the longest sequence, sequences at once and the share of memory.
"""

import json
import shlex
from collections.abc import Iterator

from runner.config.schema.kv_cache import KvCache
from runner.data.models.older_names import unsaid
from runner.engines.base import rotated_at_run_time
from runner.engines.planned import Deployment, Measured
from runner.engines.vllm.cache import DTYPES
from runner.engines.vllm.planned import BFLOAT16_SINCE
from runner.engines.vllm.settings import CPU_KV_CACHE_BYTES, Vllm

_UTILIZATION = 0.92
"""``CacheConfig.gpu_memory_utilization`` by default."""
_OURS = 0.9
"""``Vllm.gpu_memory_utilization`` by default."""
_AS_MEASURED_ON_CPUS = "VLLM_CPU_INT4_W4A8=0"
"""Or activations of 4-bit models are rounded to 8 bits on CPUs with matrix tiles."""


def serve_command(deployment: Deployment) -> str | None:
    """``vllm serve …``; ``None``: it has no KV cache of such numbers."""
    if not _holds(deployment.kv_cache):
        return None
    start = f"vllm serve {deployment.model}"
    if deployment.programs is not None:
        # Its build for CPUs brings a program that looks for a package of another name, and ends.
        python = shlex.quote(str(deployment.programs / "python"))
        start = f"{python} -m vllm.entrypoints.openai.api_server --model {deployment.model}"
    variables = [] if deployment.on_gpus else [_AS_MEASURED_ON_CPUS]
    return " ".join([*variables, start, *_flags(deployment), *deployment.further])


def serve_measured(measured: Measured) -> str | None:
    """``vllm serve …`` with the settings that were measured.

    ``None`` for a GGUF file, and for rotations at run time on a CPU, which need our patch.
    """
    settings = measured.settings
    assert isinstance(settings, Vllm)
    if not measured.config:
        return None
    on_gpus = measured.device != "cpu"
    if not on_gpus and rotated_at_run_time(measured.config):
        return None
    takes_share = on_gpus and settings.kv_cache_bytes is None
    return serve_command(
        Deployment(
            model=shlex.quote(str(measured.checkpoint)),
            devices=settings.tensor_parallel_size,
            context_length=settings.max_model_len,
            sequences=None,
            kv_cache=measured.kv_cache,
            memory_utilization=settings.gpu_memory_utilization if takes_share else None,
            on_gpus=on_gpus,
            programs=measured.programs,
            further=tuple(_further(measured, settings)),
        )
    )


def _further(measured: Measured, settings: Vllm) -> Iterator[str]:
    """What plans do not choose."""
    if settings.max_model_len is None:
        # The model's own limit, or what the KV cache holds where that is less.
        yield "--max-model-len auto"
    reserved = settings.kv_cache_bytes
    if reserved is None and measured.device == "cpu":
        # Or it wants nine tenths of the machine's memory, and ends where less is free.
        reserved = CPU_KV_CACHE_BYTES
    if reserved is not None:
        yield f"--kv-cache-memory-bytes {reserved}"
    if measured.dtype != "auto":
        yield f"--dtype {measured.dtype}"
    if settings.quantization is not None:
        yield f"--quantization {shlex.quote(settings.quantization)}"
    if settings.enforce_eager:
        yield "--enforce-eager"
    if measured.trust_remote_code:
        yield "--trust-remote-code"
    if added := unsaid(dict(measured.config)):
        yield f"--hf-overrides {shlex.quote(json.dumps(added))}"


def _flags(deployment: Deployment) -> Iterator[str]:
    if deployment.devices > 1:
        yield f"--tensor-parallel-size {deployment.devices}"
    if deployment.whole_experts:
        yield "--enable-expert-parallel"
    if _is_before_bfloat16(deployment):
        yield "--dtype half"
    if deployment.context_length is not None:
        yield f"--max-model-len {deployment.context_length}"
    if deployment.sequences is not None:
        yield f"--max-num-seqs {deployment.sequences}"
    if deployment.prefill_chunk_tokens is not None:
        yield f"--max-num-batched-tokens {deployment.prefill_chunk_tokens}"
    if not deployment.kv_cache.is_auto:
        yield f"--kv-cache-dtype {DTYPES[deployment.kv_cache.key]}"
    if deployment.memory_utilization not in (None, _UTILIZATION):
        yield f"--gpu-memory-utilization {deployment.memory_utilization:g}"


def _holds(kv_cache: KvCache) -> bool:
    return kv_cache.key is kv_cache.value and kv_cache.key in DTYPES and kv_cache.group is None


def _is_before_bfloat16(deployment: Deployment) -> bool:
    """Whether devices have no bfloat16, which vLLM refuses there."""
    capability = deployment.compute_capability or ""
    return capability[:1].isdigit() and float(capability) < BFLOAT16_SINCE


def measured_with(deployment: Deployment) -> list[str] | None:
    """Fields of ``Vllm``."""
    if not _holds(deployment.kv_cache):
        return None
    overrides = [f"engine.max_model_len={deployment.context_length}"]
    if deployment.devices > 1:
        overrides.insert(0, f"engine.tensor_parallel_size={deployment.devices}")
    if _is_before_bfloat16(deployment):
        overrides.append("engine.dtype=float16")
    if deployment.memory_utilization != _OURS:
        overrides.append(f"engine.gpu_memory_utilization={deployment.memory_utilization:g}")
    return overrides
