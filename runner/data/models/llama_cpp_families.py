"""Model families that llama.cpp supports, and where its result would differ."""

from collections.abc import Mapping, Sequence
from typing import Any

NOT_CONVERTED = frozenset(
    (
        "biogpt", "codegen", "ctrl", "cwm", "diffllama", "doge", "flex_olmo", "gpt_neo",
        "gpt_neox_japanese", "gptj", "helium", "jetmoe", "longcat_flash", "minimax", "ministral",
        "mpt", "nanochat", "openai-gpt", "opt", "persimmon", "phimoe", "recurrent_gemma", "rwkv",
        "vaultgemma", "xglm", "zamba", "zamba2",
    )
)  # fmt: skip
"""Decoders of transformers, by ``model_type``, that its converter has no class for."""
_IGNORES_WINDOWS = frozenset(
    ("mistral", "mixtral", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "starcoder2")
)
"""Families whose sliding windows it does not have, or has switched off."""
_GLOBAL_INTERVAL = {"cohere2": 4, "gemma2": 2, "gemma3_text": 6, "gpt_oss": 2}
"""Every so many layers one sees everything: fixed for a family, whatever its config says."""
_NO_ROPE_INTERVAL = {"smollm3": 4}
"""Every so many layers one has no rotary positions: likewise."""


def conversion_refusal(config: Mapping[str, Any]) -> str | None:
    """Why a model cannot be made a GGUF file that means the same; ``None`` when it can, or may."""
    family = str(config.get("model_type"))
    if family in NOT_CONVERTED:
        return f"llama.cpp's converter does not support {family} models"
    if interval := _GLOBAL_INTERVAL.get(family):
        pattern = [kind == "full_attention" for kind in config.get("layer_types") or ()]
        if pattern != _every(interval, pattern):
            return (
                f"llama.cpp assumes full attention in every {_ordinal(interval)} layer of {family} "
                "and a sliding window in the others, but config.json (layer_types) differs"
            )
    if interval := _NO_ROPE_INTERVAL.get(family):
        pattern = [not rope for rope in config.get("no_rope_layers") or ()]
        if pattern != _every(interval, pattern):
            return (
                f"llama.cpp assumes no rotary positions in every {_ordinal(interval)} layer of "
                f"{family}, but config.json (no_rope_layers) differs"
            )
    return None


def family_refusal(config: Mapping[str, Any], tokens: int | None) -> str | None:
    """Why llama.cpp cannot hold a model, or computes sequences of so many tokens otherwise."""
    return conversion_refusal(config) or _window_refusal(config, tokens)


def _window_refusal(config: Mapping[str, Any], tokens: int | None) -> str | None:
    family, window = config.get("model_type"), config.get("sliding_window")
    if family not in _IGNORES_WINDOWS or window is None or tokens is None:
        return None
    kinds = config.get("layer_types")
    used = "sliding_attention" in kinds if kinds else config.get("use_sliding_window", True)
    # Qwen's configs name a window that is not used unless they say so.
    if family.startswith("qwen") and not kinds:
        used = bool(config.get("use_sliding_window"))
    if not used or tokens <= window:
        return None
    return (
        f"llama.cpp has no sliding window for {family}: it attends to all {tokens} tokens, the "
        f"model to {window}; eval.context_length={window} or less makes both the same"
    )


def _every(interval: int, layers: Sequence[bool]) -> list[bool]:
    return [(layer + 1) % interval == 0 for layer in range(len(layers))]


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
