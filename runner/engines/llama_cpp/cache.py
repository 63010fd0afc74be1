"""llama.cpp's KV cache: types, and bytes per token."""

from collections.abc import Mapping
from typing import Any

from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.data.models.head_width import head_width

KV_BYTES = 2
"""Of a key's or value's number by default: float16."""
BLOCK = 32
"""Numbers of a block of all quantized types."""
TYPES = {
    KvFormat.auto: "f16",
    KvFormat.fp16: "f16",
    KvFormat.bf16: "bf16",
    KvFormat.q8_0: "q8_0",
    KvFormat.q5_1: "q5_1",
    KvFormat.q5_0: "q5_0",
    KvFormat.q4_1: "q4_1",
    KvFormat.q4_0: "q4_0",
    KvFormat.iq4_nl: "iq4_nl",
}
"""Types of ``-ctk`` and ``-ctv`` (``kv_cache_types`` of llama.cpp's ``common/arg.cpp``)."""


_NUMBERS = {
    "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30,
}  # fmt: skip
"""Of ``enum ggml_type`` (``ggml/include/ggml.h``), which files of all versions hold."""


def type_number(kind: KvFormat) -> int:
    """Ggml's number of a type."""
    return _NUMBERS[TYPES[kind]]


def cache_options(kv_cache: KvCache) -> dict[str, Any]:
    """Fields of the server's settings for types of keys and values other than its own."""
    if kv_cache.is_auto:
        return {}
    key, value = map(type_number, kv_cache.formats)
    return {"type_k": key, "type_v": value, "flash_attn": "true"}


def is_quantized(kind: KvFormat) -> bool:
    """Whether it has blocks: values of such types are read by flash attention alone."""
    return not TYPES[kind].endswith("f16")


def refusal(kv_cache: KvCache, config: Mapping[str, Any]) -> str | None:
    """Why a model's keys and values cannot be held so, by its config.json (the text part's)."""
    width = head_width(config)
    blocks = any(is_quantized(kind) for kind in kv_cache.formats)
    if not blocks or width is None or width % BLOCK == 0:
        return None
    return (
        f"llama.cpp cuts keys and values into blocks of {BLOCK} numbers, which do not divide the "
        f"model's heads of {width}"
    )


def kv_cache_bytes_per_token(reader: Any, kv_cache: KvCache | None = None) -> int:
    """Bytes of keys and values that a token adds, over all layers."""

    def value(name: str, default: Any = None) -> Any:
        field = reader.fields.get(f"{architecture}.{name}")
        return default if field is None else field.contents()

    architecture = reader.fields["general.architecture"].contents()
    heads = value("attention.head_count")
    widest = max(heads) if isinstance(heads, list) else heads
    kv_heads = value("attention.head_count_kv", heads)
    total = sum(kv_heads) if isinstance(kv_heads, list) else kv_heads * value("block_count")
    width = value("embedding_length") // widest
    key, val = value("attention.key_length", width), value("attention.value_length", width)
    formats = (kv_cache or KvCache()).formats
    widths = zip(formats, (key, val), strict=True)
    return int(total * sum(wide * kind.bits(BLOCK, 8 * KV_BYTES) / 8 for kind, wide in widths))
