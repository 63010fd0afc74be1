"""Validates the fields of a GGUF header before they are used."""

import math
from array import array
from collections.abc import Callable
from typing import Any

from runner.data.models.gguf_header import GgufHeader
from runner.util.given import FileFault, shown

_MOST = 1 << 31
_SIZES = (
    "block_count", "embedding_length", "feed_forward_length", "context_length",
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.value_length", "rope.dimension_count", "vocab_size",
    "rope.scaling.original_context_length",
)  # fmt: skip
_POSITIVE = (
    "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.freq_base_swa",
    "rope.scaling.factor", "attn_logit_softcapping", "final_logit_softcapping",
)  # fmt: skip
_TEXTS = ("general.name", "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.chat_template")
_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "tokens": lambda token: isinstance(token, str),
    "merges": lambda merge: isinstance(merge, str) and merge.count(" ") == 1,
    "scores": lambda score: isinstance(score, float) and math.isfinite(score),
    "token_type": lambda kind: type(kind) is int,
}
"""What each entry of a tokenizer's lists is."""


def check_values(header: GgufHeader) -> None:
    """See that sizes are sizes, numbers numbers, texts texts, and a tokenizer's lists as long.

    Raises:
        FileFault: One is not; the first is told.
    """
    metadata = header.of_architecture()
    for name in _SIZES:
        value = metadata.get(name)
        if value is not None and not (type(value) is int and 0 < value < _MOST):
            raise _fault(header, f"{header.architecture}.{name}", value, "a size")
    for name in _POSITIVE:
        value = metadata.get(name)
        if value is not None and not (_is_number(value) and 0 <= value < math.inf):
            raise _fault(header, f"{header.architecture}.{name}", value, "a number")
    for name in _TEXTS:
        value = header.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise _fault(header, name, value, "a text")
    if metadata.get("block_count", 0) > len(header.tensors):
        what = f"as many layers as {len(header.tensors)} tensors can be"
        raise _fault(header, f"{header.architecture}.block_count", metadata["block_count"], what)
    _check_tokenizer(header)


def _check_tokenizer(header: GgufHeader) -> None:
    tokens = header.fields.get("tokenizer.ggml.tokens")
    for name, fits in _ENTRIES.items():
        value = header.fields.get(f"tokenizer.ggml.{name}")
        if value is None:
            continue
        whole = isinstance(value, list | array) and all(map(fits, value))
        if not whole or (name != "merges" and tokens is not None and len(value) != len(tokens)):
            what = "a list with an entry of its kind for every token"
            raise _fault(header, f"tokenizer.ggml.{name}", "…", what)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fault(header: GgufHeader, name: str, value: Any, what: str) -> FileFault:
    return FileFault(header.path, f"sets {shown(name)}={shown(value)}, which is not {what}")
