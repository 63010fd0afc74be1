"""Validates the fields of a model's config.json before they are used."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.util.given import FileFault, read_object, shown

_LARGEST = 1 << 40
"""Of a dimension: no tensor of any model has so many numbers."""
_MOST_LAYERS = 100_000
"""As many are made one by one wherever a model is made; the deepest have hundreds."""
_LAYERS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_*_layers", "*_num_layers",
)  # fmt: skip
_SIZES = (
    "hidden_size", "n_embd", "d_model", "ffn_dim", "n_inner", "*intermediate_size",
    "ffn_hidden_size", "num_attention_heads", "n_head", "n_heads", "num_heads", "vocab_size",
    "num_key_value_heads", "num_kv_heads", "head_dim", "max_position_embeddings", "n_positions",
    "n_ctx", "num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts",
    "num_experts_per_tok", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank",
    "q_lora_rank", "sliding_window", "sliding_window_pattern",
)  # fmt: skip
"""Fields that hold a whole number from 1 on, or nothing; of Falcon and others also one a layer."""
_FROM_NOUGHT = (
    "n_shared_experts", "first_k_dense_replace", "sliding_window", "num_nextn_predict_layers",
    "num_mtp_layers", "num_experts", "num_local_experts", "n_routed_experts", "q_lora_rank",
    "qk_rope_head_dim", "num_experts_per_tok", "*_intermediate_size", "num_*_layers",
    "sliding_window_pattern",
)  # fmt: skip
"""Fields that may say 0 for what a model does without."""
_TEXTS = ("model_type", "dtype", "torch_dtype", "quant_method", "hidden_act", "activation_function")
_OBJECTS = (
    "text_config", "quantization_config", "auto_map", "rope_scaling", "rope_parameters",
    "compression_config",
)  # fmt: skip
_LISTS = ("architectures", "layer_types")
_IMPLEMENTATIONS = (
    "attn_implementation", "_attn_implementation*", "experts_implementation",
    "_experts_implementation*",
)  # fmt: skip
"""Fields by which transformers fetches kernels, which are code, where they name a repository."""
_NEVER_NOUGHT = ("num_hidden_layers", "num_layers")
_DEEPEST = 8


def read_config(path: Path) -> dict[str, Any]:
    """Content of a config.json whose dimensions are numbers, and whose parts are what they are.

    Raises:
        FileFault: It is no JSON object, or a field holds what it cannot.
    """
    config = read_object(path)
    check_config(config, path)
    return config


def check_config(config: Mapping[str, Any], path: Path, place: str = "") -> None:
    """See that every field that is gone by can be what it says.

    Args:
        config: Content of a config.json, or a part of it.
        path: The file.
        place: Name of the part, with a dot behind it.

    Raises:
        FileFault: One cannot; the first is told.
    """
    for name, value in config.items():
        if value is None:
            continue
        if wrong := _wrong(name, value):
            raise FileFault(path, f"says {place}{shown(name)}={shown(repr(value))}: {wrong}")
        if isinstance(value, dict) and place.count(".") < _DEEPEST and name.endswith("_config"):
            check_config(value, path, f"{place}{name}.")
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if isinstance(heads, int) and isinstance(hidden, int) and heads > hidden:
        what = f"says {place}num_attention_heads={heads}: more than hidden_size={hidden}"
        raise FileFault(path, what)


def _wrong(name: str, value: Any) -> str | None:
    """What a field should hold instead, if not this."""
    if name in _TEXTS:
        fits = isinstance(value, str) and value.isprintable()
        return None if fits else "it should be a name"
    if name in _OBJECTS:
        return None if isinstance(value, dict) else "it should be an object"
    if name in _LISTS:
        fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return None if fits else "it should be a list of names"
    return _wrong_number(name, value)


def _wrong_number(name: str, value: Any) -> str | None:
    if _is_any(name, _IMPLEMENTATIONS):
        fits = not any("/" in str(one) for one in _values(value))
        return None if fits else "it names code that would be downloaded; remove it"
    if name == "sliding_window_pattern" and isinstance(value, str) and set(value) <= {*"LG"}:
        return None  # Exaone's letters, one a layer
    layers = _is_any(name, _LAYERS)
    if not layers and not _is_any(name, _SIZES):
        return None
    nought = _is_any(name, _FROM_NOUGHT) and name not in _NEVER_NOUGHT
    least, most = (0 if nought else 1), (_MOST_LAYERS if layers else _LARGEST)
    values = value if isinstance(value, list) and not layers else [value]
    if all(type(one) is int and least <= one <= most for one in values):
        return None
    return f"it should be a whole number from {least} to {most}"


def _values(value: Any) -> list[Any]:
    return [*value.values()] if isinstance(value, dict) else [value]


def _is_any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
