"""Arithmetic of a decoder-only transformer's forward pass (Pope et al., arXiv 2211.05102)."""

from dataclasses import dataclass


@dataclass
class ForwardWork:
    """Dimensions that decide how many operations a token costs."""

    body_parameters: int
    """Weights of all layers' matrices: each is multiplied with every token."""
    head_parameters: int
    """Weights of the output embedding: multiplied with every token whose logits are wanted."""
    layers: int
    heads: int
    head_dim: int

    def prefill_flops(self, batch_size: int, prompt_tokens: int) -> float:
        """Operations of prompts whose last token's logits alone are wanted.

        Two a weight and token, and attention over the triangle of earlier tokens:
        2 * layers * heads * head_dim * tokens^2 a sequence.
        """
        attention = 2 * self.layers * self.heads * self.head_dim * prompt_tokens**2
        weights = 2 * (self.body_parameters * prompt_tokens + self.head_parameters)
        return float(batch_size * (weights + attention))

    def decode_flops(self, batch_size: int, context_tokens: float) -> float:
        """Operations of one more token for every sequence, each with so many before it."""
        attention = 4 * self.layers * self.heads * self.head_dim * context_tokens
        return batch_size * (2 * (self.body_parameters + self.head_parameters) + attention)


def forward_work(
    *,
    layers: int | None,
    hidden: int | None,
    intermediate: int | None,
    heads: int | None,
    kv_heads: int | None,
    head_dim: int | None,
    vocab: int | None,
    parameters: int | None,
    tied_embeddings: bool | None,
) -> ForwardWork | None:
    """Dimensions of a dense model; ``None`` when too little is known.

    Without ``parameters`` a gated feed-forward of three matrices is counted.
    """
    if not (layers and hidden and heads and head_dim and vocab):
        return None
    embedding = vocab * hidden
    if parameters:
        body = parameters - embedding * (1 if tied_embeddings else 2)
    elif intermediate and kv_heads:
        attention = 2 * hidden * (heads + kv_heads) * head_dim
        body = layers * (attention + 3 * hidden * intermediate)
    else:
        return None
    return ForwardWork(body, embedding, layers, heads, head_dim)
