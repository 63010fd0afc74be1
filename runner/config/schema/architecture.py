"""Dimensions of a decoder: what its layers are made of, and how wide that is."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from runner.config.bounds import BYTES, bounded


class Mixer(Enum):
    """What a layer mixes tokens by."""

    full = "full"
    """Attention over the whole context."""
    sliding = "sliding"
    """Attention over the last ``sliding_window`` tokens, or a chunk of so many."""
    sparse = "sparse"
    """Attention over what an ``indexer`` chooses of the whole context, which is cached."""
    compressed = "compressed"
    """Attention over the window and one entry for ``compress_ratios`` earlier tokens."""
    gated_delta = "gated_delta"
    """Gated delta rule (Qwen3-Next, Qwen3.5); see ``linear``."""
    kda = "kda"
    """Kimi delta attention: gates by channel; see ``linear``."""
    lightning = "lightning"
    """Lightning attention (MiniMax-01); see ``linear``."""
    mamba = "mamba"
    """Mamba-2 (Nemotron-H, Granite 4); see ``mamba``."""
    mamba1 = "mamba1"
    """The first Mamba (Jamba); see ``mamba``."""
    convolution = "convolution"
    """A gated short convolution (LFM2); see ``linear.convolution``."""
    parallel = "parallel"
    """Attention beside Mamba-2 (Falcon-H1)."""
    none = "none"
    """Nothing: the layer is an MLP alone."""


class Mlp(Enum):
    """What follows a layer's mixer."""

    dense = "dense"
    experts = "experts"
    """Routed experts, with shared ones where the model has them."""
    none = "none"


class AttentionGate(Enum):
    """What attention's output is multiplied by."""

    none = "none"
    per_head = "per_head"
    per_channel = "per_channel"


@dataclass
class SlidingHeads:
    """Heads of windowed layers, as far as they differ from those of the others."""

    heads: Optional[int] = bounded(None, least=1)
    kv_heads: Optional[int] = bounded(None, least=1)
    head_dim: Optional[int] = bounded(None, least=1)
    value_head_dim: Optional[int] = bounded(None, least=1)


@dataclass
class LinearAttention:
    """Layers that keep a state of one size instead of a KV cache."""

    key_heads: Optional[int] = bounded(None, least=1)
    value_heads: Optional[int] = bounded(None, least=1)
    key_head_dim: Optional[int] = bounded(None, least=1)
    value_head_dim: Optional[int] = bounded(None, least=1)
    convolution: Optional[int] = bounded(None, least=1)
    """Tokens that the short convolution before it sees."""
    full_rank_gate: Optional[bool] = None
    """Whether KDA's output gate is one matrix instead of two narrow ones (Kimi-K3)."""


@dataclass
class Mamba:
    """Layers of a state space model."""

    heads: Optional[int] = bounded(None, least=1)
    head_dim: Optional[int] = bounded(None, least=1)
    """Heads times this is the inner width; the first Mamba has heads of 1."""
    groups: Optional[int] = bounded(None, least=1)
    state: Optional[int] = bounded(None, least=1)
    convolution: Optional[int] = bounded(None, least=1)
    step_rank: Optional[int] = bounded(None, least=1)
    """Width through which the first Mamba makes its step sizes."""


@dataclass
class Indexer:
    """What chooses the tokens that sparse attention reads (DeepSeek-V3.2, arXiv 2512.02556)."""

    heads: Optional[int] = bounded(None, least=1)
    head_dim: Optional[int] = bounded(None, least=1)
    """Width of the one key a token that is cached for it."""
    tokens: Optional[int] = bounded(None, least=1)
    """Tokens, or compressed ones, that each new one reads."""
    layers: Optional[int] = None
    """Layers with an indexer of their own, where others use that of a layer before."""


@dataclass
class Architecture:
    """Dimensions of a decoder-only transformer, as its ``config.json`` names them.

    ``None`` means "read it from the model's own config.json when it is at hand". Lists by layer
    that are shorter than the model are repeated; an empty one says nothing.
    """

    family: Optional[str] = None
    """Value of ``model_type`` (llama, qwen2, opt, …)."""
    layers: Optional[int] = bounded(None, least=1)
    hidden: Optional[int] = bounded(None, least=1)
    intermediate: Optional[int] = bounded(None, least=1)
    heads: Optional[int] = bounded(None, least=1)
    kv_heads: Optional[int] = bounded(None, least=1)
    head_dim: Optional[int] = bounded(None, least=1)
    vocab: Optional[int] = bounded(None, least=1)
    context: Optional[int] = bounded(None, least=1)
    """Longest supported sequence, in tokens."""
    tied_embeddings: Optional[bool] = None
    parameters: Optional[int] = bounded(None, least=1, most=BYTES)

    layer_kinds: list[Mixer] = field(default_factory=list)
    """What each layer mixes tokens by; if empty, attention, windowed as ``sliding_window`` and
    ``global_layer_interval`` say."""
    mlp_kinds: list[Mlp] = field(default_factory=list)
    """What follows in each layer; if empty, experts in all but the ``dense_layers`` where there
    are ``experts``."""
    layer_intermediates: list[int] = field(default_factory=list)
    """Inner width of each layer's dense MLP, where they differ."""
    layer_kv_heads: list[int] = field(default_factory=list)
    """Key-value heads of each layer, where they differ."""
    gated: Optional[bool] = None
    """Whether MLPs have a gate beside their way up; ``None``: by the family."""
    attention_gate: Optional[AttentionGate] = None
    attention_bias: Optional[bool] = None
    """Whether queries, keys and values have biases."""
    keys_are_values: Optional[bool] = None
    """Whether layers that see the whole context have no values' matrix (Gemma 4)."""
    kv_shared_layers: Optional[int] = None
    """Last layers that use keys and values of earlier ones."""
    learned_positions: Optional[int] = None
    """Rows of a table of positions (GPT-2, OPT)."""
    embedding_width: Optional[int] = bounded(None, least=1)
    """Width of the embeddings, where it is not the model's (OPT-350M)."""
    layer_embedding: Optional[int] = None
    """Width of a second embedding in each layer (Gemma 3n and 4)."""
    layer_embedding_vocab: Optional[int] = None

    experts: Optional[int] = None
    """Routed experts of a mixture-of-experts layer; ``None`` in a dense model."""
    experts_per_token: Optional[int] = None
    shared_experts: Optional[int] = None
    """Experts that every token uses in addition to its routed ones."""
    expert_intermediate: Optional[int] = None
    """Inner width of one expert; ``intermediate`` is that of dense layers."""
    shared_intermediate: Optional[int] = None
    """Inner width of all shared experts together, where it is not that of as many routed ones."""
    shared_gate: Optional[bool] = None
    """Whether a gate scales what shared experts give (Qwen)."""
    expert_hidden: Optional[int] = None
    """Width that routed experts work on, if not the model's (latent experts of Nemotron 3)."""
    dense_layers: Optional[int] = None
    """Number of first layers of a mixture of experts that are dense."""

    kv_lora_rank: Optional[int] = None
    """Width of the compressed keys and values of multi-head latent attention (MLA)."""
    q_lora_rank: Optional[int] = None
    rope_head_dim: Optional[int] = None
    """Width of the part of an MLA head that encodes the position; cached once for all heads."""
    value_head_dim: Optional[int] = None
    """Width of a head's values; ``None``: that of its keys. Keys of MLA have ``head_dim`` in
    addition to the position part."""
    output_lora_rank: Optional[int] = None
    """Width that each of ``output_groups`` of heads is projected through (DeepSeek-V4)."""
    output_groups: Optional[int] = None
    compress_ratios: list[int] = field(default_factory=list)
    """Tokens that each layer makes one cached entry of, beside the window (DeepSeek-V4);
    0: none."""
    residual_streams: Optional[int] = None
    """Copies of the hidden state that hyper-connections mix (DeepSeek-V4)."""

    sliding_window: Optional[int] = None
    """Window of windowed layers, in tokens; ``None`` if every layer sees the whole context."""
    global_layer_interval: Optional[int] = None
    """One layer in this many sees the whole context; ``None`` if all layers are windowed."""
    sliding: SlidingHeads = field(default_factory=SlidingHeads)
    linear: LinearAttention = field(default_factory=LinearAttention)
    mamba: Mamba = field(default_factory=Mamba)
    indexer: Indexer = field(default_factory=Indexer)
    state_bits: Optional[int] = None
    """Bits of a number of recurrent states; ``None``: those of activations."""

    @property
    def has_gate(self) -> bool:
        """Whether a block's MLP has a gate beside its way up."""
        return self.family not in WITHOUT_GATE if self.gated is None else self.gated


WITHOUT_GATE = ("opt", "gpt2", "gpt_bigcode", "gptj", "gpt_neo", "gpt_neox", "falcon", "bloom",
    "mpt", "phi", "starcoder2", "nemotron", "nemotron_h", "codegen", "xglm", "biogpt", "persimmon",
    "arcee")  # fmt: skip
"""Families with a plain MLP."""
