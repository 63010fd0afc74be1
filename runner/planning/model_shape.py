"""Sizes and operation counts of a model, from its dimensions."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from runner.config.schema.model import Architecture
from runner.errors import UsageError

_NEEDED = ("layers", "hidden", "intermediate", "heads", "head_dim", "vocab")


@dataclass(frozen=True)
class Linear:
    """Linear layers of one kind: ``count`` matrices of [outputs, inputs]."""

    inputs: int
    outputs: int
    count: int
    routed: bool = False
    """Belongs to experts of which each token uses some."""

    @property
    def weights(self) -> int:
        """Weights of all of them."""
        return self.inputs * self.outputs * self.count


class Shape:
    """A decoder-only transformer by its dimensions."""

    def __init__(self, architecture: Architecture) -> None:
        """Count its matrices.

        Raises:
            UsageError: A dimension is unknown.
        """
        missing = [name for name in _NEEDED if not getattr(architecture, name)]
        if missing:
            raise UsageError(
                f"a plan needs the model's dimensions; model.architecture lacks "
                f"{', '.join(missing)}: name them, or a model of conf/model"
            )
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
        self.linears = tuple(self._linears())
        self.linear_weights = sum(linear.weights for linear in self.linears)
        self.routed_weights = sum(linear.weights for linear in self.linears if linear.routed)
        self.channels = sum(linear.outputs * linear.count for linear in self.linears)
        """Output channels of all linear layers: each has a scale where scales are per channel."""
        self.embedding_weights = self.vocab * self.hidden
        tables = self.embedding_weights * (1 if self.tied else 2)
        stated = architecture.parameters or 0
        norms = self.hidden * (2 * self.layers + 1)
        self.other_weights = max(stated - self.linear_weights - tables, 0) if stated else norms
        """Norms, biases, routers: kept in 16 bits."""
        self.parameters = self.linear_weights + tables + self.other_weights

    @property
    def active_parameters(self) -> int:
        """Parameters that a token meets, embeddings included (2211.05102 counts so)."""
        idle = 1 - self.experts_per_token / self.experts if self.experts else 0.0
        return self.parameters - int(self.routed_weights * idle)

    @cached_property
    def flops_per_token(self) -> int:
        """Multiplications and additions in matrices, the head's included, for one token."""
        idle = 1 - self.experts_per_token / self.experts if self.experts else 0.0
        return 2 * (self.linear_weights - int(self.routed_weights * idle) + self.embedding_weights)

    def routed_share_touched(self, batch: float) -> float:
        """Part of the routed experts that a decode step reads, if tokens choose them evenly."""
        if not self.experts:
            return 1.0
        return float(1.0 - (1.0 - self.experts_per_token / self.experts) ** batch)

    @cached_property
    def windowed_layers(self) -> int:
        """Layers that look back no further than the sliding window."""
        if not self.architecture.sliding_window:
            return 0
        every = self.architecture.global_layer_interval
        return self.layers - (self.layers // every if every else 0)

    @cached_property
    def cached_numbers_per_layer(self) -> int:
        """Numbers that one token adds to one layer's KV cache.

        Grouped-query attention: keys and values of every KV head. Latent attention
        (DeepSeek-V2, arXiv 2405.04434): the compressed vector and one rotated key.
        """
        latent = self.architecture.kv_lora_rank
        if latent:
            return latent + (self.architecture.rope_head_dim or 0)
        return 2 * self.kv_heads * self.head_dim

    def cached_tokens(self, context: int) -> int:
        """Layers times tokens held for a sequence of ``context`` tokens."""
        window = min(context, self.architecture.sliding_window or context)
        return (self.layers - self.windowed_layers) * context + self.windowed_layers * window

    def kv_bytes(self, context: int, number_bytes: float, tensor_parallel: int = 1) -> float:
        """KV cache of one sequence on one device, in bytes.

        Key-value heads are shared out over devices, and held several times where there are
        more devices than heads; a latent cache is held whole by each.
        """
        share = 1.0
        if not self.architecture.kv_lora_rank:
            share = -(-self.kv_heads // tensor_parallel) / self.kv_heads
        return self.cached_tokens(context) * self.cached_numbers_per_layer * number_bytes * share

    @cached_property
    def kv_numbers_per_token(self) -> int:
        """Numbers that a token adds over all layers while it is inside every window."""
        return self.layers * self.cached_numbers_per_layer

    @cached_property
    def attention_flops_per_pair(self) -> int:
        """Operations in one layer for one new token and one token that it looks at."""
        latent = self.architecture.kv_lora_rank
        if latent:
            # Absorbed projections: scores over the latent vector and the rotated key.
            return 2 * self.heads * (2 * latent + (self.architecture.rope_head_dim or 0))
        return 4 * self.heads * self.head_dim

    def _linears(self) -> Iterator[Linear]:
        shape, hidden, layers = self.architecture, self.hidden, self.layers
        if shape.kv_lora_rank:
            latent, rope = shape.kv_lora_rank, shape.rope_head_dim or 0
            value = shape.value_head_dim or self.head_dim
            if shape.q_lora_rank:
                yield Linear(hidden, shape.q_lora_rank, layers)
            wide = shape.q_lora_rank or hidden
            yield Linear(wide, self.heads * (self.head_dim + rope), layers)
            yield Linear(hidden, latent + rope, layers)
            yield Linear(latent, self.heads * (self.head_dim + value), layers)
            yield Linear(self.heads * value, hidden, layers)
        else:
            attention = self.heads * self.head_dim
            yield Linear(hidden, attention, layers)
            yield Linear(hidden, self.kv_heads * self.head_dim, 2 * layers)
            yield Linear(attention, hidden, layers)
        gates = 2 if shape.has_gate else 1
        dense = layers if not self.experts else shape.dense_layers or 0
        inner = shape.intermediate or 0
        if dense:
            yield Linear(hidden, inner, gates * dense)
            yield Linear(inner, hidden, dense)
        if self.experts:
            inner = shape.expert_intermediate or inner
            for number, routed in ((self.experts, True), (shape.shared_experts or 0, False)):
                count = number * (layers - dense)
                yield Linear(hidden, inner, 2 * count, routed)
                yield Linear(inner, hidden, count, routed)
