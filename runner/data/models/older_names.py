"""Renames what transformers 5 writes to the names that transformers 4 reads.

Version 5 gathers everything about rotary positions in ``rope_parameters``, where version 4 has
``rope_theta``, ``rope_scaling`` and names of some models' own; it calls a fast tokenizer
``TokenizersBackend``. Either version reads a file that has both.
"""

from typing import Any

_OWN_NAMES = {
    "gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "gpt_neox_japanese": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "modernbert-decoder": {"rope_theta": "global_rope_theta", "local": "local_rope_theta"},
}
"""What models call their rotary parameters in version 4, by ``model_type``."""
_TRAINED = "original_max_position_embeddings"
_SCALING = {
    "phi3": ("type", "short_factor", "long_factor", _TRAINED),
    "olmo": ("type", "factor"),
    "olmo2": ("type", "factor"),
}
"""Models that take no other fields in ``rope_scaling``, and call its type so.

What has others they refuse, as they must: version 4 does not have it for them.
"""
_LAYER_TYPES = {
    "granitemoehybrid": {"linear_attention": "mamba", "full_attention": "attention"},
}
"""What models call their types of layers in version 4; version 5 reads these too."""
_UNSAID = {"deepseek_v3": {"scoring_func": "sigmoid", "topk_method": "noaux_tc"}}
"""What transformers takes for granted and does not save, and vLLM and llama.cpp go by."""
_RENAMED = {"qwen3_moe": {"num_experts": "num_local_experts"}}
"""Other names of version 4, by ``model_type``; version 5 reads these too."""
_ABSENT_IN_SCALING = ("rope_theta", "partial_rotary_factor")
_PER_LAYER_TYPE = ("gemma3_text", "gemma3n_text", "modernbert-decoder", "olmo3")
"""Models with parameters for each type of layer that version 4 knows too.

Others would take a ``rope_scaling`` for the parameters of all layers.
"""
_FAST_TOKENIZERS = ("TokenizersBackend", "PythonBackend", "SentencePieceBackend")


def add_older_config_names(config: dict[str, Any]) -> None:
    """Add to the content of a config.json, and its sub-configs, what version 4 looks for.

    Names that are there already are left as they are, and ``torch_dtype`` says what ``dtype``
    says.
    """
    for name, value in config.items():
        config[name] = _plain(value)
    if config.get("dtype"):
        config["torch_dtype"] = config["dtype"]
    elif config.get("torch_dtype"):
        config["dtype"] = config["torch_dtype"]
    names = _LAYER_TYPES.get(str(config.get("model_type")), {})
    if names and config.get("layer_types"):
        config["layer_types"] = [names.get(one, one) for one in config["layer_types"]]
    for name, value in unsaid(config).items():
        config[name] = value
    for name, now in _RENAMED.get(str(config.get("model_type")), {}).items():
        if now in config:
            _fill(config, name, config[now])
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and rope:
        _add_rope(config, rope)
    for name, value in config.items():
        if isinstance(value, dict) and name.endswith("_config") and name != "quantization_config":
            add_older_config_names(value)


def unsaid(config: dict[str, Any]) -> dict[str, Any]:
    """What a config.json has to say for readers other than transformers, and does not."""
    known = _UNSAID.get(str(config.get("model_type")), {})
    return {name: value for name, value in known.items() if config.get(name) is None}


def _fill(config: dict[str, Any], name: str, value: Any) -> None:
    """Set what is not there, or there without a value."""
    if config.get(name) is None:
        config[name] = value


def _plain(value: Any) -> Any:
    """Numbers that JSON does not have as version 4 writes them: bare ``Infinity``."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict) and set(value) == {"__float__"}:
        return float(value["__float__"])
    return value


def _add_rope(config: dict[str, Any], rope: dict[str, Any]) -> None:
    kind = config.get("model_type")
    own = _OWN_NAMES.get(str(kind), {})
    local: dict[str, Any] = {}
    if any(isinstance(value, dict) for value in rope.values()):
        if kind not in _PER_LAYER_TYPE:
            return
        local, rope = rope.get("sliding_attention") or {}, rope.get("full_attention") or {}
    for name in _ABSENT_IN_SCALING:
        if rope.get(name) is not None:
            _fill(config, own.get(name, name), rope[name])
    if local.get("rope_theta") is not None:
        _fill(config, own.get("local", "rope_local_base_freq"), local["rope_theta"])
    scaling = {name: value for name, value in rope.items() if name not in _ABSENT_IN_SCALING}
    if (scaling.get("rope_type", "default") == "default" and len(scaling) < 2) or "local" in own:
        return
    older = {"type" if name == "rope_type" else name: value for name, value in scaling.items()}
    if older.keys() <= set(_SCALING.get(str(kind), ())):
        if _TRAINED in older:
            _fill(config, _TRAINED, older.pop(_TRAINED))
        scaling = older
    if not config.get("rope_scaling"):
        config["rope_scaling"] = scaling


def add_older_tokenizer_names(settings: dict[str, Any]) -> None:
    """Let the content of a tokenizer_config.json be what version 4 reads, and 5 as before."""
    if settings.get("tokenizer_class") in _FAST_TOKENIZERS:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    # A list under this name is an error there; version 5 reads the older name.
    if isinstance(settings.get("extra_special_tokens"), list):
        settings.setdefault("additional_special_tokens", settings.pop("extra_special_tokens"))
