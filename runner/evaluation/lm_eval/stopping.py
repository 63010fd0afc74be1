"""Stops generation at the first stop text of each answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_FURTHER_TOKENS = 2
"""Looked back beyond a stop text's own, which a model may write in other tokens."""


class StopsEach:
    """A stopping criterion of transformers that ends every row of a batch by itself.

    The harness's own ends a batch once all its rows hold the *same* stop text: where some end with
    a blank line and others with the model's end of sequence, all go on to the longest length
    allowed. What is written after the first stop text is cut off in any case, so that answers
    are the same.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], prompt_tokens: int) -> None:
        """Look for these texts behind the prompt.

        Args:
            tokenizer: The model's.
            stops: Texts that end an answer.
            prompt_tokens: Length of the prompts, padding included.
        """
        self._tokenizer, self._start = tokenizer, prompt_tokens
        self._stops = [stop for stop in stops if stop]
        lengths = [len(tokenizer.encode(stop, add_special_tokens=False)) for stop in self._stops]
        self._tokens = max(lengths, default=0) + _FURTHER_TOKENS

    def __call__(self, ids: "torch.Tensor", scores: Any, **_: Any) -> "torch.Tensor":
        """Whether each row's last tokens hold a stop text."""
        import torch

        last = ids[:, max(self._start, ids.shape[1] - self._tokens) :]
        texts = self._tokenizer.batch_decode(last)
        done = [any(stop in text for stop in self._stops) for text in texts]
        return torch.tensor(done, dtype=torch.bool, device=ids.device)
