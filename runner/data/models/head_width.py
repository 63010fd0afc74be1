"""The width of an attention head, by a model's config.json."""

from collections.abc import Mapping
from typing import Any

_WHOLE = (("hidden_size", "num_attention_heads"), ("n_embd", "n_head"))


def head_width(config: Mapping[str, Any]) -> int | None:
    """Numbers of a head's key; ``None`` where config.json (the text part's) does not tell."""
    if (width := config.get("head_dim")) is not None:
        return int(width)
    for whole, heads in _WHOLE:
        if config.get(whole) and config.get(heads):
            return int(config[whole]) // int(config[heads])
    return None
