"""Puts the right answer among wrong ones, and lists them in words."""

import random
from collections.abc import Sequence
from typing import Any


def multiple_choice(
    text: str, right: str, wrong: Sequence[str], count: int, chosen: random.Random
) -> dict[str, Any] | None:
    """An item with ``count`` choices; ``None`` where there are too few wrong answers.

    Args:
        text: What the answer goes on.
        right: The right answer.
        wrong: Answers to draw the others from.
        count: Choices, the right one included.
        chosen: Draws them and their order.
    """
    others = sorted(set(wrong) - {right})
    if len(others) < count - 1:
        return None
    choices = [right, *chosen.sample(others, count - 1)]
    chosen.shuffle(choices)
    return {"text": text, "choices": choices, "answer": choices.index(right)}


def enumerated(texts: list[str]) -> str:
    """Such as ``A, B and C``."""
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]
