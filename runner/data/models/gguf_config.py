"""The architecture in a GGUF file's metadata, as a transformers config."""

import math
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.data.models.gguf_header import GgufHeader
from runner.data.models.gguf_values import check_values
from runner.errors import UsageError
from runner.util.given import shown

_FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
}
"""Architectures that transformers reads right with the corrections below, by llama.cpp's name.

Each was converted by llama.cpp and read back: the same tensors, the same losses.
"""
_READ = frozenset(
    {
        "context_length", "block_count", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
        "attention.key_length", "attention.value_length", "rope.dimension_count",
        "rope.freq_base", "rope.freq_base_swa", "rope.scaling.type", "rope.scaling.factor",
        "rope.scaling.original_context_length", "rope.scaling.finetuned",
    }
)  # fmt: skip
_NEEDED = (
    "context_length", "block_count", "embedding_length", "feed_forward_length",
    "attention.head_count", "attention.layer_norm_rms_epsilon",
)  # fmt: skip
_OF_FAMILY = {
    "gemma2": ("attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"),
    "gemma3": ("attention.sliding_window", "final_logit_softcapping"),
    "phi3": ("attention.sliding_window",),
}
_LARGEST_GEMMA_LAYERS = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models, whose queries are scaled by another width; no field says so."""
_LLAMA3_CONTEXT = 8192
_THETA = 10000.0
"""llama.cpp's base of rotary positions where a file says none."""
_SAME = 1e-4


def check_readable(header: GgufHeader) -> None:
    """Refuse a file whose model would be another one in transformers.

    Raises:
        UsageError: It is one of several parts, or its architecture or something that it says of
            it is not read.
    """
    path, architecture = header.path, header.architecture
    parts = header.fields.get("split.count", 0)
    if parts not in (0, 1):
        raise UsageError(
            f"{path} is one of {shown(parts)} parts: join them with llama.cpp's "
            "llama-gguf-split --merge"
        )
    if architecture not in _FAMILIES:
        raise UsageError(
            f"{path} contains a model of architecture {shown(architecture) or 'unknown'}; GGUF "
            f"sources are supported for {', '.join(sorted(_FAMILIES))}: use the model's own "
            "directory with config.json and safetensors"
        )
    check_values(header)
    metadata = header.of_architecture()
    missing = [name for name in _NEEDED if name not in metadata]
    if missing or "token_embd.weight" not in header.tensors:
        raise UsageError(
            f"{path} is incomplete: it lacks "
            f"{architecture + '.' + missing[0] if missing else 'token_embd.weight'}"
        )
    known = _READ.union(_OF_FAMILY.get(architecture, ()))
    for name, value in metadata.items():
        if name not in known:
            raise _not_read(header, name, value)
    width = _head_dim(header)
    for name in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        if metadata.get(name, width) != width:
            raise _not_read(header, name, metadata[name])
    if metadata.get("rope.scaling.type", "none") not in ("none", "linear", "yarn"):
        raise _not_read(header, "rope.scaling.type", metadata["rope.scaling.type"])


def _not_read(header: GgufHeader, name: str, value: Any) -> UsageError:
    return UsageError(
        f"{header.path} sets {header.architecture}.{shown(name)}={shown(value)}, which is not "
        "supported, and without it the model would differ: use the model's own directory with "
        "config.json and safetensors"
    )


def architecture_of_gguf(header: GgufHeader) -> Architecture:
    """Dimensions of the model, as its config.json would name them.

    Args:
        header: Of a file that ``check_readable`` accepts.
    """
    metadata = header.of_architecture()
    tied = "output.weight" not in header.tensors
    weights = (t.shape for name, t in header.tensors.items() if name != "rope_freqs.weight")
    windowed = metadata.get("attention.sliding_window") or None
    return Architecture(
        family=_FAMILIES.get(header.architecture, header.architecture),
        layers=metadata.get("block_count"),
        hidden=metadata.get("embedding_length"),
        intermediate=metadata.get("feed_forward_length"),
        heads=metadata.get("attention.head_count"),
        kv_heads=metadata.get("attention.head_count_kv", metadata.get("attention.head_count")),
        head_dim=_head_dim(header),
        vocab=_vocabulary(header),
        context=metadata.get("context_length"),
        tied_embeddings=tied,
        parameters=sum(math.prod(shape) for shape in weights),
        sliding_window=windowed,
        global_layer_interval={"gemma2": 2, "gemma3": 6}.get(header.architecture)
        if windowed
        else None,
    )


def settings(header: GgufHeader) -> dict[str, Any]:
    """Fields of transformers' config, ``model_type`` among them; but see ``rope_parameters``.

    Args:
        header: Of a file that ``check_readable`` accepts.
    """
    metadata = header.of_architecture()
    heads = metadata["attention.head_count"]
    config: dict[str, Any] = {
        "model_type": _FAMILIES[header.architecture],
        "max_position_embeddings": metadata["context_length"],
        "num_hidden_layers": metadata["block_count"],
        "hidden_size": metadata["embedding_length"],
        "intermediate_size": metadata["feed_forward_length"],
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get("attention.head_count_kv", heads),
        "head_dim": _head_dim(header),
        "vocab_size": _vocabulary(header),
        # The file has it in float32: 1e-6 is 9.999999974752427e-07 there.
        "rms_norm_eps": float(f"{metadata['attention.layer_norm_rms_epsilon']:.7g}"),
        "rope_theta": metadata.get("rope.freq_base", _THETA),
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }
    for name, token in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        # What the file leaves out would be the default of the architecture's first model.
        config[f"{name}_token_id"] = header.special_token(token)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if name in metadata:
            config[name] = metadata[name]
    if "attention.sliding_window" in metadata:
        config["sliding_window"] = metadata["attention.sliding_window"] or None
    if header.architecture in _LARGEST_GEMMA_LAYERS:
        # As llama.cpp scales: no field of the file has it.
        largest = metadata["block_count"] == _LARGEST_GEMMA_LAYERS[header.architecture]
        whole = metadata["embedding_length"] // heads
        config["query_pre_attn_scalar"] = whole if largest else config["head_dim"]
    if header.architecture == "llama" and "blk.0.attn_q.bias" in header.tensors:
        config["attention_bias"] = True
    return config


def rope_parameters(header: GgufHeader, rope: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters with the scaling that the file says.

    Args:
        header: Of the file.
        rope: What transformers made of ``settings``.

    Raises:
        UsageError: The file's rotary factors follow no rule of transformers.
    """
    rope = dict(rope)
    metadata = header.of_architecture()
    if "sliding_attention" in rope and "rope.freq_base_swa" in metadata:
        local = {**rope["sliding_attention"], "rope_theta": metadata["rope.freq_base_swa"]}
        rope["sliding_attention"] = local
    scaled = dict(rope.get("full_attention", rope))
    # llama.cpp scales by a factor of no type as by a linear one.
    kind, factor = metadata.get("rope.scaling.type", "linear"), metadata.get("rope.scaling.factor")
    if kind != "none" and factor:
        scaled |= {"rope_type": kind, "factor": float(factor)}
        if original := metadata.get("rope.scaling.original_context_length"):
            scaled["original_max_position_embeddings"] = original
    if "rope_freqs.weight" in header.tensors:
        scaled |= _llama3(header, scaled["rope_theta"])
    if "full_attention" in rope:
        return {**rope, "full_attention": scaled}
    return scaled


def _llama3(header: GgufHeader, theta: float) -> dict[str, Any]:
    """Llama 3's rule of scaling, found from the factors it gave.

    The file holds a factor for every pair of channels instead of the rule.
    """
    import numpy as np

    tensor = header.tensors["rope_freqs.weight"]
    stored = np.fromfile(header.path, np.float32, math.prod(tensor.shape), offset=tensor.offset)
    factors = stored.astype(np.float64)
    pairs = np.arange(len(factors)) / len(factors)
    wavelengths = 2 * math.pi * theta**pairs
    low, high = 1.0, 4.0
    largest = float(factors.max())
    smooth = np.clip((_LLAMA3_CONTEXT / wavelengths - low) / (high - low), 0, 1)
    expected = 1 / ((1 - smooth) / largest + smooth)
    if not np.allclose(factors, expected, rtol=_SAME):
        raise UsageError(
            f"{header.path} has rotary factors (rope_freqs.weight) that are not Llama 3's: take "
            "the model's own directory with config.json and safetensors"
        )
    return {
        "rope_type": "llama3",
        "factor": largest,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": _LLAMA3_CONTEXT,
    }


def _head_dim(header: GgufHeader) -> int:
    metadata = header.of_architecture()
    by_heads = metadata["embedding_length"] // metadata["attention.head_count"]
    width: int = metadata.get("attention.key_length", by_heads)
    return width


def _vocabulary(header: GgufHeader) -> int | None:
    embedding = header.tensors.get("token_embd.weight")
    return embedding.shape[0] if embedding else None
