"""How the harness's model of transformers generates answers here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runner.evaluation.lm_eval.stopping import StopsEach

if TYPE_CHECKING:
    import torch

_LEAST_SHARE = 2 / 3
"""Of a batch's longest prompt; shorter ones are mostly padding, which is computed like tokens."""
_LEAST_PADDING_TOKENS = 64
"""Below that a further batch costs more than the padding it saves."""


def generating(kind: type[Any]) -> type[Any]:
    """The harness's model of transformers, but that batches hold no more than they need.

    Answers of a batch end each by itself (``StopsEach``), and prompts of a batch have similar
    lengths.
    """

    def answer(self: Any, requests: list[Any], *rest: Any, **options: Any) -> list[str]:
        lengths = [len(self.tok_encode(request.args[0])) for request in requests]
        answers = [""] * len(requests)
        for places in similar_lengths(lengths):
            group = [requests[place] for place in places]
            found = kind.generate_until(self, group, *rest, **options)
            for place, text in zip(places, found, strict=True):
                answers[place] = text
        return answers

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

    own = {"generate_until": answer, "_model_generate": generate}
    return type(f"{kind.__name__}Generating", (kind,), own)


def similar_lengths(lengths_tokens: Sequence[int]) -> list[list[int]]:
    """Groups of prompts that fill a batch without much padding, the longest first.

    Args:
        lengths_tokens: Length of each prompt.

    Returns:
        Places of the prompts of each group, in their order.
    """
    groups: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(lengths_tokens)), key=lambda one: -lengths_tokens[one]):
        length = lengths_tokens[place]
        padding = longest - length
        if not groups or (padding > _LEAST_PADDING_TOKENS and length < _LEAST_SHARE * longest):
            groups.append([])
            longest = length
        groups[-1].append(place)
    return [sorted(group) for group in groups]
