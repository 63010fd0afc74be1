"""Loss and KL divergence of changed states against the unquantized model's.

With p the unquantized model's probabilities, W the head and h the last states,

    KL(p || q) = sum_v p_v ((z_v - z'_v) + lse(z') - lse(z)),   z = W h, z' = W h'

and sum_v p_v (z'_v - z_v) = (p W) . (h' - h). So p W, as wide as a state, is all that is kept of
the probabilities, and a changed model costs one product with the head and one pass over it.

The product is taken in float32 whatever the model computes in: logits of bfloat16 are off by more
than what rounding a layer to 8 bits changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TOKENS_A_CHUNK = 256
"""Tokens whose logits exist at once: 50 MB with a vocabulary of 49,152 in float32."""
_LOGITS_A_PART = 1 << 20


@dataclass(frozen=True)
class Score:
    """Means of each window, in nats a token."""

    loss: list[float]
    """Negative log-likelihood of the scored tokens."""
    kl_divergence: list[float]
    """Of the changed model's next-token distribution from the unquantized model's."""


class Scorer:
    """The unquantized model's predictions of a text, and how others differ from them."""

    def __init__(self, head: Any, states: "torch.Tensor", ids: "torch.Tensor") -> None:
        """Predict with the unquantized model.

        Args:
            head: The linear layer that gives logits.
            states: Its input, shape (windows, tokens, width).
            ids: The tokens, shape (windows, tokens); each is predicted from those before it.
        """
        import torch

        self._windows = ids.shape[0]
        self._states = _predicting(states).float()
        self._targets = ids[:, first_scored(ids.shape[1]) + 1 :].flatten()
        self._weight = head.weight.float()
        self._bias = None if head.bias is None else head.bias.float()
        self._expected = torch.empty_like(self._states)
        self._sums = self._log_sum_exp(self._states, self._weight)
        for part, logits in self._logits():
            probabilities = torch.exp(logits - self._sums[part, None].to(logits.dtype))
            self._expected[part] = probabilities @ self._weight
        self.reference = self._means(self._sums - self._target_logits(self._states))

    def score(self, states: "torch.Tensor") -> Score:
        """Score other states under the same head; shape (windows, tokens, width)."""
        changed = _predicting(states).float()
        sums = self._log_sum_exp(changed, self._weight)
        shift = (self._expected.double() * (changed.double() - self._states.double())).sum(-1)
        return Score(
            self._means(sums - self._target_logits(changed)),
            self._means(sums - self._sums - shift),
        )

    def score_head(self, weight: "torch.Tensor", states: "torch.Tensor | None" = None) -> Score:
        """Score states, by default the unquantized model's, under another head."""
        import torch

        given = self._states if states is None else _predicting(states).float()

        losses, divergences = torch.empty_like(self._sums), torch.empty_like(self._sums)
        weight = weight.float()
        all_sums = self._log_sum_exp(given, weight)
        for part, logits in self._logits():
            sums = all_sums[part]
            changed = torch.nn.functional.linear(given[part], weight, self._bias)
            probabilities = torch.exp(logits - self._sums[part, None].to(logits.dtype))
            shift = (probabilities * (changed - logits)).sum(-1, dtype=torch.float64)
            divergences[part] = sums - self._sums[part] - shift
            losses[part] = sums - changed.gather(1, self._targets[part, None])[:, 0].double()
        return Score(self._means(losses), self._means(divergences))

    def _logits(self) -> Iterator[tuple[slice, "torch.Tensor"]]:
        """The unquantized model's, some tokens at a time."""
        import torch

        for start in range(0, len(self._states), _TOKENS_A_CHUNK):
            part = slice(start, min(len(self._states), start + _TOKENS_A_CHUNK))
            yield (
                part,
                torch.nn.functional.linear(self._states[part], self._weight, self._bias),
            )

    def _log_sum_exp(self, states: "torch.Tensor", weight: "torch.Tensor") -> "torch.Tensor":
        """Of every token's logits, in float64.

        The vocabulary is cut so that the logits of a part stay in the processor's cache.
        """
        import torch

        rows = max(_LOGITS_A_PART // len(states), 512)
        biases = None if self._bias is None else torch.split(self._bias, rows)
        parts = []
        for number, part in enumerate(torch.split(weight, rows)):
            bias = None if biases is None else biases[number]
            logits = torch.nn.functional.linear(states, part, bias)
            highest = logits.amax(-1, keepdim=True)
            sums = logits.sub_(highest).exp_().sum(-1)
            parts.append(highest[:, 0].double() + sums.double().log())
        return torch.stack(parts).logsumexp(0)

    def _target_logits(self, states: "torch.Tensor") -> "torch.Tensor":
        logits: torch.Tensor = (states.double() * self._weight[self._targets].double()).sum(-1)
        if self._bias is not None:
            logits = logits + self._bias[self._targets].double()
        return logits

    def _means(self, values: "torch.Tensor") -> list[float]:
        means: list[float] = values.reshape(self._windows, -1).mean(-1).tolist()
        return means


def first_scored(tokens: int) -> int:
    """Position in a window from which predictions count: its second half, as in llama.cpp.

    The first positions of a window hold an attention sink that rounding may move from one token to
    the next. That changes one prediction by several nats and would drown what is to be seen.
    """
    return tokens // 2


def _predicting(states: "torch.Tensor") -> "torch.Tensor":
    """States that predict a scored token: of each window's second half, but the last."""
    return states[:, first_scored(states.shape[1]) : -1].flatten(0, 1)
