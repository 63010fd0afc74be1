"""vLLM's KV cache: its names of number formats, and which of them a device has."""

import platform
import re

from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.data.models.head_width import head_width
from runner.engines.base import CheckpointFacts
from runner.util.instructions import reported, usable

DTYPES = {
    KvFormat.auto: "auto",
    KvFormat.fp16: "float16",
    KvFormat.bf16: "bfloat16",
    KvFormat.fp8_e4m3: "fp8_e4m3",
    KvFormat.fp8_e5m2: "fp8_e5m2",
    KvFormat.int8: "int8_per_token_head",
    KvFormat.int4: "int4_per_token_head",
}
"""Values of ``--kv-cache-dtype`` (``CacheDType`` of ``vllm/config/cache.py``)."""
_ON_CPUS = (KvFormat.auto, KvFormat.fp8_e4m3, KvFormat.fp8_e5m2)
"""``supported_kv_cache_dtypes`` of ``vllm/v1/attention/backends/cpu_attn.py``."""
_CPU_BLOCK = 32
"""Numbers that must divide a head on a CPU where the cache has fp8."""
_WIDE_VECTORS = frozenset({"avx512f", "amx_int8"})
_NARROW = re.compile(r"(?:fp|int)(\d+)(?!\d)")
_X86 = ("x86_64", "AMD64")


def refusal(kv_cache: KvCache, checkpoint: CheckpointFacts) -> str | None:
    """Why a device does not hold a model's keys and values so."""
    if checkpoint.device != "cpu" or kv_cache.is_auto:
        return None
    if kv_cache.key not in _ON_CPUS:
        return f"vLLM on CPUs has no KV cache in {kv_cache.key.value}, only in fp8"
    if platform.machine() in _X86 and not _WIDE_VECTORS.intersection(usable(reported())):
        return "vLLM's KV cache in fp8 on CPUs needs AVX-512 or AMX, which this CPU lacks"
    width = head_width(checkpoint.config)
    if width is not None and width % _CPU_BLOCK:
        return f"vLLM's KV cache in fp8 on CPUs needs heads of a multiple of {_CPU_BLOCK} numbers"
    return None


def number_bytes(cache_dtype: str, arithmetic_bytes: int, head: int) -> float:
    """Bytes of a number in the cache, its part of scales included.

    Args:
        cache_dtype: vLLM's name.
        arithmetic_bytes: Of a number of the arithmetic.
        head: Numbers of a head, of which each has a scale in float32 where scales are stored.
    """
    if (narrow := _NARROW.match(cache_dtype)) is None:
        return 2.0 if cache_dtype.endswith("float16") else float(arithmetic_bytes)
    return int(narrow[1]) / 8 + (4 / head if cache_dtype.endswith("head") else 0)
