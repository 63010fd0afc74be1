"""Memory of a GGUF file in llama.cpp, and what a decode step reads of it."""

from typing import Any

from runner.config.schema.kv_cache import KvCache
from runner.engines.base import Footprint
from runner.engines.llama_cpp.cache import kv_cache_bytes_per_token

_LOOKED_UP = ("position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")
"""Tables of which a step reads rows."""
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"


def gguf_footprint(reader: Any, total: int, kv_cache: KvCache | None = None) -> Footprint:
    """The footprint of a model whose tensors are computed with as they are stored.

    Args:
        reader: Of the file.
        total: Bytes of all tensors as llama.cpp counts them.
        kv_cache: Types of keys and values; ``None``: its own.
    """
    sizes: dict[str, int] = {}
    by_name: dict[str, int] = {}
    for tensor in reader.tensors:
        name = tensor.tensor_type.name
        sizes[name] = sizes.get(name, 0) + int(tensor.n_bytes)
        by_name[tensor.name] = int(tensor.n_bytes)
    # Without an output embedding of its own a model reads the input embedding every time.
    unread = [*_LOOKED_UP, _EMBEDDING] if _HEAD in by_name else [*_LOOKED_UP]
    dense = total - sum(by_name.get(name, 0) for name in unread)
    routed = sum(size for name, size in by_name.items() if "_exps." in name)
    share = _routed_share(reader) if routed else None
    return Footprint(
        weight_bytes=total,
        streamed_bytes_per_step=dense if share is None else round(dense - (1 - share) * routed),
        kv_cache_bytes_per_token=kv_cache_bytes_per_token(reader, kv_cache),
        weight_bytes_by_dtype=sizes,
        routed_bytes=routed if share is not None else 0,
        routed_share=1.0 if share is None else share,
    )


def _routed_share(reader: Any) -> float | None:
    architecture = reader.fields["general.architecture"].contents()
    counts = [
        None if (field := reader.fields.get(f"{architecture}.{name}")) is None else field.contents()
        for name in ("expert_used_count", "expert_count")
    ]
    return counts[0] / counts[1] if counts[0] and counts[1] else None
