"""Scores word problems: the number behind the word "Answer"."""

import re
from typing import Any

_NEXT = re.compile(r"\n\s*(?:\*\*)?(?:Question|Problem)\b", re.IGNORECASE)
"""Where a model that goes on begins a question of its own."""
_ANSWER = re.compile(
    r"answer(?:\s+is)?[\s:*=$]{1,8}([-\u2212]?[0-9][0-9,]*(?:\.[0-9]+)?)[ \t*]*([a-z]*)",
    re.IGNORECASE,
)
"""The number, and what is counted where that is said."""


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Shares of one answer.

    Args:
        doc: The item, whose ``answer`` is the number; ``other_things`` are words that an
            answer to another item has behind it.
        results: What the model wrote.

    Returns:
        ``acc``: 1 if the first number behind "Answer" is the right one, and not one of other
        things. ``finished``: 1 if there is one at all, so that what is lost by not coming to an end
        is told from wrong sums.
    """
    written = _NEXT.split(results[0], maxsplit=1)[0]
    found = _ANSWER.search(written)
    if found is None:
        return {"acc": 0.0, "finished": 0.0}
    number, counted = found.groups()
    right = _plain(number) == _plain(str(doc["answer"])) and (
        counted.lower() not in str(doc["other_things"]).split()
    )
    return {"acc": float(right), "finished": 1.0}


def _plain(number: str) -> str:
    """A number without separators, leading zeros or a fraction of zero; as text, of any length."""
    whole, _, fraction = number.replace(",", "").replace("\u2212", "-").partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    fraction = fraction.rstrip("0")
    return sign + (digits.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
