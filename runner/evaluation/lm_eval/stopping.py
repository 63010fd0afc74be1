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


def stopping_each(kind: type[Any]) -> type[Any]:
    """The harness's model of transformers, but that answers of a batch end each by itself."""

    def generate(
        self: Any, context: "torch.Tensor", max_length: int, stop: list[str], **options: Any
    ) -> "torch.Tensor":
        temperature = options.pop("temperature", None)
        if temperature:
            options["temperature"] = temperature
        elif temperature is not None or options.get("do_sample") is None:
            # transformers warns of a temperature of zero.
            options["do_sample"] = False
        found: torch.Tensor = self.model.generate(
            input_ids=context,
            max_length=max_length,
            stopping_criteria=[StopsEach(self.tokenizer, stop, context.shape[1])],
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **options,
        )
        return found

    return type(f"{kind.__name__}StoppingEach", (kind,), {"_model_generate": generate})
