"""The matrices that a model multiplies by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from runner.config.schema.architecture import Architecture, AttentionGate, Mixer, Mlp
from runner.planning.layers import ATTENTION, STATE_SPACE, Layer


@dataclass(frozen=True)
class Linear:
    """Linear layers of one kind: ``count`` matrices of [outputs, inputs]."""

    inputs: int
    outputs: int
    count: int
    routed: bool = False
    """Belongs to experts of which each token uses some."""
    part: str = "mlp"
    """``attention``, ``linear_attention``, ``mamba``, ``mlp``, ``experts``, ``shared_experts`` or
    ``router``."""
    kept: bool = False
    """So narrow that quantizers leave it in 16 bits: routers and gates."""
    reduces: bool = False
    """Leads back to the hidden state: devices share out its inputs and sum its outputs."""

    @property
    def weights(self) -> int:
        """Weights of all of them."""
        return self.inputs * self.outputs * self.count


def linears_of(architecture: Architecture, layers: Mapping[Layer, int]) -> tuple[Linear, ...]:
    """All of a model but its embedding and head; equal ones of a part are one entry."""
    counts: dict[Linear, int] = {}
    for layer, number in layers.items():
        for linear in (*_mixer(architecture, layer), *_mlp(architecture, layer)):
            one = replace(linear, count=1)
            counts[one] = counts.get(one, 0) + linear.count * number
    hidden, width = architecture.hidden or 0, architecture.embedding_width
    if width and width != hidden:
        counts[Linear(width, hidden, 1)] = 1
        counts[Linear(hidden, width, 1)] = 1
    if streams := architecture.residual_streams:
        # Hyper-connections before attention and before the MLP (arXiv 2409.19606).
        mixed = Linear(streams * hidden, (2 + streams) * streams, 1, kept=True)
        counts[mixed] = 2 * (architecture.layers or 0)
        counts[Linear(streams * hidden, streams, 1, kept=True)] = 1
    if architecture.layer_embedding:
        wide = (architecture.layers or 0) * architecture.layer_embedding
        counts[Linear(hidden, wide, 1)] = 1
    return tuple(
        replace(one, count=count) for one, count in counts.items() if count and one.weights
    )


def _mixer(architecture: Architecture, layer: Layer) -> Iterator[Linear]:
    hidden = architecture.hidden or 0
    if layer.mixer in ATTENTION:
        if architecture.output_lora_rank:
            yield from _shared_key(architecture, layer)
        elif architecture.kv_lora_rank:
            yield from _latent(architecture)
        else:
            yield from _attention(architecture, layer)
        if layer.indexes:
            yield from _indexer(architecture, layer)
    if layer.mixer in STATE_SPACE:
        yield from _state_space(architecture, layer)
    elif layer.mixer is Mixer.convolution:
        yield Linear(hidden, 3 * hidden, 1, part="linear_attention")
        yield Linear(hidden, hidden, 1, part="linear_attention", reduces=True)
    elif layer.mixer not in (*ATTENTION, Mixer.none):
        for linear in _linear_attention(architecture, layer):
            yield replace(linear, part="linear_attention")


@dataclass(frozen=True)
class Heads:
    """Widths of one layer's attention."""

    heads: int
    key: int
    value: int


def heads_of(architecture: Architecture, layer: Layer) -> Heads:
    """Of grouped-query attention; windowed layers may have their own."""
    sliding = layer.mixer is Mixer.sliding
    own = architecture.sliding
    heads, key = architecture.heads or 0, architecture.head_dim or 0
    value = architecture.value_head_dim
    if sliding:
        heads, value = own.heads or heads, own.value_head_dim or own.head_dim or value
        key = own.head_dim or key
    return Heads(heads, key, value or key)


def _attention(architecture: Architecture, layer: Layer) -> Iterator[Linear]:
    hidden, width = architecture.hidden or 0, heads_of(architecture, layer)
    queries, out = width.heads * width.key, width.heads * width.value
    gate = architecture.attention_gate
    yield Linear(hidden, queries, 1, part="attention")
    if layer.keeps_keys:
        yield Linear(hidden, layer.kv_heads * width.key, 1, part="attention")
        if not (architecture.keys_are_values and layer.mixer is not Mixer.sliding):
            yield Linear(hidden, layer.kv_heads * width.value, 1, part="attention")
    if gate is AttentionGate.per_channel:
        yield Linear(hidden, out, 1, part="attention")
    elif gate is AttentionGate.per_head:
        yield Linear(hidden, width.heads, 1, part="attention", kept=True)
    yield Linear(out, hidden, 1, part="attention", reduces=True)


def _latent(architecture: Architecture) -> Iterator[Linear]:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434)."""
    hidden, heads = architecture.hidden or 0, architecture.heads or 0
    latent, rope = architecture.kv_lora_rank or 0, architecture.rope_head_dim or 0
    key = architecture.head_dim or 0
    value = architecture.value_head_dim or key
    if architecture.q_lora_rank:
        yield Linear(hidden, architecture.q_lora_rank, 1, part="attention")
    yield Linear(architecture.q_lora_rank or hidden, heads * (key + rope), 1, part="attention")
    yield Linear(hidden, latent + rope, 1, part="attention")
    yield Linear(latent, heads * (key + value), 1, part="attention")
    if architecture.attention_gate is AttentionGate.per_channel:
        yield Linear(hidden, heads * value, 1, part="attention")
    yield Linear(heads * value, hidden, 1, part="attention", reduces=True)


def leads_to_latent(architecture: Architecture, linear: Linear) -> bool:
    """Whether its outputs are latent queries, or the latent keys and values that are cached.

    All heads need all of those, so that devices that share out the heads have it whole.
    """
    if linear.part != "attention" or linear.reduces or not architecture.kv_lora_rank:
        return False
    cached = architecture.kv_lora_rank + (architecture.rope_head_dim or 0)
    return linear.outputs in (cached, architecture.q_lora_rank)


def _shared_key(architecture: Architecture, layer: Layer) -> Iterator[Linear]:
    """DeepSeek-V4's: one key that is the value too, groups of heads projected to low rank."""
    hidden, heads, key = (
        architecture.hidden or 0, architecture.heads or 0, architecture.head_dim or 0,
    )  # fmt: skip
    queries, rank = architecture.q_lora_rank or hidden, architecture.output_lora_rank or 0
    groups = architecture.output_groups or 1
    yield Linear(hidden, queries, 1, part="attention")
    yield Linear(queries, heads * key, 1, part="attention")
    yield Linear(hidden, key, 1, part="attention")
    yield Linear(heads * key // groups, rank, groups, part="attention")
    yield Linear(groups * rank, hidden, 1, part="attention", reduces=True)
    if layer.ratio:
        # Overlapping windows of the chosen entries need two series.
        series = 2 if layer.mixer is Mixer.sparse else 1
        yield Linear(hidden, series * key, 2, part="attention")


def _indexer(architecture: Architecture, layer: Layer) -> Iterator[Linear]:
    hidden, heads = architecture.hidden or 0, architecture.indexer.heads or 0
    width = architecture.indexer.head_dim or 0
    queries = architecture.q_lora_rank or hidden
    yield Linear(queries, heads * width, 1, part="attention")
    if layer.ratio:
        yield Linear(hidden, 2 * width, 2, part="attention")
    else:
        yield Linear(hidden, width, 1, part="attention")
    if architecture.q_lora_rank:
        yield Linear(hidden, heads, 1, part="attention", kept=True)


def _linear_attention(architecture: Architecture, layer: Layer) -> Iterator[Linear]:
    hidden, linear = architecture.hidden or 0, architecture.linear
    keys = (linear.key_heads or 0) * (linear.key_head_dim or 0)
    heads, values = (
        linear.value_heads or 0,
        (linear.value_heads or 0) * (linear.value_head_dim or 0),
    )
    if layer.mixer is Mixer.gated_delta:
        yield Linear(hidden, 2 * keys + values, 1)
        yield Linear(hidden, values, 1)
        yield Linear(hidden, 2 * heads, 1, kept=True)
    elif layer.mixer is Mixer.lightning:
        yield Linear(hidden, 2 * keys + values, 1)
        yield Linear(hidden, values, 1)
    else:
        narrow = linear.value_head_dim or 0
        yield Linear(hidden, keys, 2)
        yield Linear(hidden, values, 1)
        yield Linear(hidden, narrow, 1)
        yield Linear(narrow, keys, 1)
        if linear.full_rank_gate:
            yield Linear(hidden, values, 1)
        else:
            yield Linear(hidden, narrow, 1)
            yield Linear(narrow, values, 1)
        yield Linear(hidden, heads, 1, kept=True)
    yield Linear(values, hidden, 1, reduces=True)


def _state_space(architecture: Architecture, layer: Layer) -> Iterator[Linear]:
    hidden, mamba = architecture.hidden or 0, architecture.mamba
    heads = mamba.heads or 0
    inner, state = heads * (mamba.head_dim or 1), mamba.state or 0
    if layer.mixer is Mixer.mamba1:
        rank = mamba.step_rank or 0
        yield Linear(hidden, 2 * inner, 1, part="mamba")
        yield Linear(inner, rank + 2 * state, 1, part="mamba")
        yield Linear(rank, inner, 1, part="mamba")
    else:
        wide = 2 * inner + 2 * (mamba.groups or 0) * state + heads
        yield Linear(hidden, wide, 1, part="mamba")
    yield Linear(inner, hidden, 1, part="mamba", reduces=True)


def _mlp(architecture: Architecture, layer: Layer) -> Iterator[Linear]:
    hidden, ways = architecture.hidden or 0, 2 if architecture.has_gate else 1
    if architecture.layer_embedding:
        yield Linear(hidden, architecture.layer_embedding, 1)
        yield Linear(architecture.layer_embedding, hidden, 1)
    if layer.mlp is Mlp.dense:
        yield Linear(hidden, layer.intermediate, ways)
        yield Linear(layer.intermediate, hidden, 1, reduces=True)
    if layer.mlp is not Mlp.experts:
        return
    experts = architecture.experts or 0
    inner = architecture.expert_intermediate or architecture.intermediate or 0
    width = architecture.expert_hidden or hidden
    if width != hidden:
        yield Linear(hidden, width, 1)
        yield Linear(width, hidden, 1)
    yield Linear(hidden, experts, 1, part="router", kept=True)
    yield Linear(width, inner, ways * experts, routed=True, part="experts")
    yield Linear(inner, width, experts, routed=True, part="experts", reduces=True)
    shared = architecture.shared_intermediate
    if shared is None:
        shared = (architecture.shared_experts or 0) * inner
    yield Linear(hidden, shared, ways, part="shared_experts")
    yield Linear(shared, hidden, 1, part="shared_experts", reduces=True)
    if shared and architecture.shared_gate:
        yield Linear(hidden, 1, 1, part="router", kept=True)
