"""Sizes and operation counts of a model, from its dimensions."""

import functools
from functools import cached_property

from runner.config.schema.architecture import Architecture, Mixer, Mlp
from runner.planning.layers import ATTENTION, LINEAR, STATE_SPACE, Layer, held_tokens, layers_of
from runner.planning.linears import heads_of, linears_of

_INDEX_BYTES_PER_NUMBER = 1 + 4 / 128
"""Keys of an indexer are cached in fp8 with a float32 scale for 128 (vLLM's and DeepSeek's)."""


class Shape:
    """A decoder-only transformer by its dimensions."""

    def __init__(self, architecture: Architecture) -> None:
        """Count its matrices.

        Raises:
            UsageError: A dimension is unknown.
        """
        self.kinds = layers_of(architecture)
        """How many layers there are of each kind."""
        self.architecture = architecture
        self.layers: int = architecture.layers or 0
        self.hidden: int = architecture.hidden or 0
        self.heads: int = architecture.heads or 0
        self.kv_heads: int = architecture.kv_heads or self.heads
        self.head_dim: int = architecture.head_dim or 0
        self.vocab: int = architecture.vocab or 0
        self.tied = bool(architecture.tied_embeddings)
        self.experts = architecture.experts or 0
        self.experts_per_token = architecture.experts_per_token or 0
        self.linears = linears_of(architecture, self.kinds)
        rounded = [linear for linear in self.linears if not linear.kept]
        self.linear_weights = sum(linear.weights for linear in rounded)
        """Of all that is quantized: not those of routers and gates."""
        self.routed_weights = sum(linear.weights for linear in rounded if linear.routed)
        self.channels = sum(linear.outputs * linear.count for linear in rounded)
        """Output channels of all linear layers: each has a scale where scales are per channel."""
        self.embedding_weights = self.vocab * (architecture.embedding_width or self.hidden)
        tables = self.embedding_weights * (1 if self.tied else 2)
        self.counted = self.linear_weights + tables + self._small_weights()
        """Parameters by the dimensions alone."""
        stated = architecture.parameters or 0
        self.other_weights = max((stated or self.counted) - self.linear_weights - tables, 0)
        """Norms, biases, routers, convolutions, tables of positions: kept in 16 bits."""
        self.parameters = self.linear_weights + tables + self.other_weights

    @property
    def active_parameters(self) -> int:
        """Parameters that a token meets, embeddings included (2211.05102 counts so)."""
        return self.parameters - self._idle_weights

    @property
    def _idle_weights(self) -> int:
        idle = 1 - self.experts_per_token / self.experts if self.experts else 0.0
        return int(self.routed_weights * idle)

    @cached_property
    def flops_per_token(self) -> int:
        """Multiplications and additions in matrices, the head's included, for one token."""
        weights = sum(linear.weights for linear in self.linears)
        return 2 * (weights - self._idle_weights + self.embedding_weights)

    def routed_share_touched(self, batch: float) -> float:
        """Part of the routed experts that a decode step reads, if tokens choose them evenly."""
        if not self.experts:
            return 1.0
        return float(1.0 - (1.0 - self.experts_per_token / self.experts) ** batch)

    @cached_property
    def attention_layers(self) -> int:
        """Layers that attend over a KV cache."""
        return sum(self._attending.values())

    @cached_property
    def linear_attention_layers(self) -> int:
        """Layers that keep a state of one size."""
        stateful = (*LINEAR, *STATE_SPACE, Mixer.convolution)
        return sum(n for layer, n in self.kinds.items() if layer.mixer in stateful)

    @cached_property
    def expert_layers(self) -> int:
        """Layers with routed experts."""
        return sum(n for layer, n in self.kinds.items() if layer.mlp is Mlp.experts)

    @cached_property
    def mlp_layers(self) -> int:
        """Layers with a dense MLP."""
        return sum(n for layer, n in self.kinds.items() if layer.mlp is Mlp.dense)

    @property
    def expert_intermediate(self) -> int:
        """Inner width of a routed expert; 0 where there is none."""
        wide = self.architecture.expert_intermediate or self.architecture.intermediate or 0
        return wide if self.experts else 0

    @cached_property
    def windowed_layers(self) -> int:
        """Layers that look back no further than the sliding window."""
        return sum(n for layer, n in self.kinds.items() if layer.mixer is Mixer.sliding)

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - shapes are few and live long
    def kv_bytes(self, context: int, number_bytes: float, tensor_parallel: int = 1) -> float:
        """KV cache of one sequence on one device, in bytes.

        Key-value heads are shared out over devices, and held several times where there are
        more devices than heads; a latent cache and an indexer's keys are held whole by each.
        """
        window, total = self.architecture.sliding_window, 0.0
        for layer, n in self._caching.items():
            numbers = self._numbers(layer) * self._share(layer, tensor_parallel)
            total += n * held_tokens(layer, context, window) * numbers * number_bytes
            total += n * self._index_bytes(layer, context)
        return total

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - shapes are few and live long
    def kv_read_bytes(self, context: int, number_bytes: float, tensor_parallel: int = 1) -> float:
        """What a decode step reads of one sequence's KV cache on one device, in bytes."""
        total = 0.0
        for layer, n in self._attending.items():
            numbers = self._numbers(layer) * self._share(layer, tensor_parallel)
            total += n * self._read(layer, context) * numbers * number_bytes
            total += n * self._index_bytes(layer, context)
        return total

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - shapes are few and live long
    def state_bytes_per_sequence(self, number_bytes: float, tensor_parallel: int = 1) -> float:
        """Recurrent state of one sequence on one device, in bytes, whatever its length.

        A decode step reads it and writes it.
        """
        state = (self.architecture.state_bits or 8 * number_bytes) / 8
        linear, mamba, total = self.architecture.linear, self.architecture.mamba, 0.0
        for layer, n in self.kinds.items():
            if layer.mixer in LINEAR:
                heads = linear.value_heads or 0
                square = (linear.key_head_dim or 0) * (linear.value_head_dim or 0)
                keys = (linear.key_heads or 0) * (linear.key_head_dim or 0)
                mixed = 2 * keys + heads * (linear.value_head_dim or 0)
                kernel = 0 if layer.mixer is Mixer.lightning else linear.convolution or 0
            elif layer.mixer in STATE_SPACE:
                heads = mamba.heads or 0
                square = (mamba.head_dim or 1) * (mamba.state or 0)
                mixed = heads * (mamba.head_dim or 1)
                if layer.mixer is not Mixer.mamba1:
                    mixed += 2 * (mamba.groups or 0) * (mamba.state or 0)
                kernel = mamba.convolution or 0
            elif layer.mixer is Mixer.convolution:
                heads, square, mixed, kernel = 1, 0, self.hidden, linear.convolution or 0
            else:
                continue
            share = -(-heads // tensor_parallel) / heads
            window = mixed * max(kernel - 1, 0) * number_bytes
            total += n * (heads * square * state * share + window / tensor_parallel)
        return total

    @cached_property
    def kv_numbers_per_token(self) -> int:
        """Numbers that a token adds over all layers while it is inside every window."""
        caching = self._caching.items()
        return sum(n * (self._numbers(layer) // (layer.ratio or 1)) for layer, n in caching)

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - shapes are few and live long
    def attention_flops(self, context: int) -> int:
        """Operations in all layers' attention for one token after ``context`` others."""
        return sum(
            n * (self._pair(layer) * self._read(layer, context) + self._index(layer, context))
            for layer, n in self._attending.items()
        )

    @cached_property
    def _attending(self) -> dict[Layer, int]:
        return {layer: n for layer, n in self.kinds.items() if layer.mixer in ATTENTION}

    @cached_property
    def _caching(self) -> dict[Layer, int]:
        return {layer: n for layer, n in self._attending.items() if layer.keeps_keys}

    def _numbers(self, layer: Layer) -> int:
        """Numbers of one entry of a layer's cache.

        Grouped-query attention: keys and values of every KV head. Latent attention
        (DeepSeek-V2, arXiv 2405.04434): the compressed vector and one rotated key. DeepSeek-V4:
        one key that is the value too.
        """
        architecture = self.architecture
        if architecture.output_lora_rank:
            return self.head_dim
        if architecture.kv_lora_rank:
            return architecture.kv_lora_rank + (architecture.rope_head_dim or 0)
        width = heads_of(architecture, layer)
        return layer.kv_heads * (width.key + width.value)

    def _share(self, layer: Layer, devices: int) -> float:
        if self.architecture.output_lora_rank or self.architecture.kv_lora_rank:
            return 1.0
        return -(-layer.kv_heads // devices) / layer.kv_heads

    def _read(self, layer: Layer, context: int) -> int:
        window = self.architecture.sliding_window
        held = held_tokens(layer, context, window)
        if layer.mixer is not Mixer.sparse:
            return held
        recent = min(context, window or 0) if layer.ratio else 0
        return min(held, (self.architecture.indexer.tokens or held) + recent)

    def _index_bytes(self, layer: Layer, context: int) -> float:
        if not layer.indexes:
            return 0.0
        keys = context // layer.ratio if layer.ratio else context
        return keys * (self.architecture.indexer.head_dim or 0) * _INDEX_BYTES_PER_NUMBER

    def _index(self, layer: Layer, context: int) -> int:
        if not layer.indexes:
            return 0
        indexer, keys = self.architecture.indexer, context // (layer.ratio or 1)
        return 2 * (indexer.heads or 0) * (indexer.head_dim or 0) * keys

    def _pair(self, layer: Layer) -> int:
        architecture = self.architecture
        if architecture.kv_lora_rank and not architecture.output_lora_rank:
            # Absorbed projections: scores over the latent vector and the rotated key.
            latent, rope = architecture.kv_lora_rank, architecture.rope_head_dim or 0
            return 2 * self.heads * (2 * latent + rope)
        width = heads_of(architecture, layer)
        return 2 * width.heads * (width.key + width.value)

    def _small_weights(self) -> int:
        """What is no quantized matrix: two norms a layer, narrow matrices, tables, biases."""
        architecture, hidden = self.architecture, self.hidden
        kept = sum(linear.weights for linear in self.linears if linear.kept)
        kept += hidden * (2 * self.layers + 1)
        kept += (architecture.learned_positions or 0) * hidden
        by_layer = self.layers * (architecture.layer_embedding or 0)
        kept += by_layer * (architecture.layer_embedding_vocab or 0)
        if architecture.attention_bias:
            for layer, n in self._attending.items():
                width = heads_of(architecture, layer)
                kept += n * (width.heads * width.key + layer.kv_heads * (width.key + width.value))
        return kept
