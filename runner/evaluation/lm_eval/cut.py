"""Counts prompts that do not fit a model's context.

The harness cuts their beginnings without failing, and the answer is then to another question.
"""

from collections.abc import Sequence
from typing import Any

_SPECIAL_TOKENS = 8
"""More than any tokenizer adds to a text."""


def prompts_cut(model: Any, kind: str, requests: Sequence[Any]) -> int:
    """How many of the prompts leave no room for their answers.

    Args:
        model: Of the harness.
        kind: Name of the model's method that is asked.
        requests: What it is asked; ``args`` are a prompt and a continuation, or a prompt and
            options of generation. Texts that are scored whole come in windows that fit.
    """
    if kind == "loglikelihood_rolling":
        return 0
    known: dict[tuple[str, int], bool] = {}
    count = 0
    for prompt, other in (request.args for request in requests):
        text, answer = prompt, 0
        if kind == "generate_until":
            answer = other.get("max_gen_toks", model.max_gen_toks)
        else:
            text += other
        if (text, answer) not in known:
            known[text, answer] = _is_cut(model, text, answer)
        count += known[text, answer]
    return count


def _is_cut(model: Any, text: str, answer_tokens: int) -> bool:
    most: int = model.max_length
    # A token is a byte at least, and most prompts are shorter than that.
    if len(text.encode("utf-8", "replace")) + _SPECIAL_TOKENS + answer_tokens <= most:
        return False
    # The last token of what is scored is not read.
    unread = 0 if answer_tokens else 1
    return len(model.tok_encode(text)) + answer_tokens - unread > most
