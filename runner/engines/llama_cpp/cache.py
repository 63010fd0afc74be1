"""Bytes per token of llama.cpp's KV cache."""

from typing import Any

KV_BYTES = 2
"""Of a key's or value's number: float16."""


def kv_cache_bytes_per_token(reader: Any) -> int:
    """Bytes of keys and values that a token adds to a float16 cache, over all layers."""

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
    return int(total * (key + val) * KV_BYTES)
