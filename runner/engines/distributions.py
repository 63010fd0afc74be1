"""An engine's distributions over the next token, and how they are stored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS_AT_ONCE = 128
"""Tokens whose float32 log-probabilities exist at once: 25 MB with a vocabulary of 49,152."""


@dataclass(frozen=True)
class LinearHead:
    """A matrix of the checkpoint whose product with the states is the logits."""

    tensor: str
    """Its name in the checkpoint's safetensors files."""
    dtype: str
    """Torch dtype name of the matrix; the product is ``runner.engines.hf.head.product``."""


@dataclass(frozen=True)
class FullDistributions:
    """Every token's probability, after each scored position of one window."""

    vocabulary: int
    chunks: Iterator["NDArray[np.float32]"]
    """Natural logarithms of shape (tokens, vocabulary), at most ``ROWS_AT_ONCE`` tokens each; an
    array may be overwritten when the next is asked for."""
    states: "NDArray[np.float32] | None" = None
    """(tokens, hidden size), where the logits are ``head`` times these and nothing more."""
    head: LinearHead | None = None


@dataclass(frozen=True)
class TopDistributions:
    """The most likely tokens alone, after each scored position of one window."""

    top: "NDArray[Any]"
    """Shape (tokens, k + 1), fields ``token`` and ``log_probability`` (natural): the k most
    likely in descending order, then the token that really follows."""


TOP_FIELDS = [("token", "i4"), ("log_probability", "f4")]
"""Structured dtype of ``TopDistributions.top``."""

Distributions = FullDistributions | TopDistributions


def log_softmax(logits: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Natural logarithms of the probabilities that rows of logits stand for."""
    import numpy as np

    shifted: NDArray[np.float32] = logits - logits.max(axis=1, keepdims=True)
    # Row by row in the same room: fresh memory of a chunk's size costs more than the arithmetic.
    probability = np.empty(logits.shape[1], np.float32)
    for row in shifted:
        total = np.exp(row, out=probability).sum(dtype=np.float64)
        np.subtract(row, np.log(total).astype(np.float32), out=row)
    return shifted
