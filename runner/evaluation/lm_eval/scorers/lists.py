"""Scores lists that were to be written in one line."""

import re
from typing import Any

_PREFIX = re.compile(
    r"\s*(?:\*\*)?(?:result|answer|output|list)?(?:\*\*)?\s*[:=]\s*", re.IGNORECASE
)
_AROUND = " \t\r*`\"'."
_MOST_CHARACTERS = 20_000
"""Of an answer that are looked at: far more than the longest list has."""


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Shares of one answer.

    Args:
        doc: The item, whose ``target`` is the list, separated by commas.
        results: What the model wrote.

    Returns:
        ``acc``: 1 if the first line is the list. ``places``: share of the list's places in which
        the right item stands, of the longer list's length.
    """
    right = _items(str(doc["target"]))
    found = _items(_first_line(results[0][:_MOST_CHARACTERS]))
    same = sum(a == b for a, b in zip(right, found, strict=False))
    return {
        "acc": float(found == right),
        "places": same / max(len(right), len(found), 1),
    }


def _first_line(written: str) -> str:
    """The first line in which something stands, without what announces it."""
    for line in written.splitlines():
        rest = _PREFIX.sub("", line, count=1) if _PREFIX.match(line) else line
        if rest.strip(_AROUND):
            return rest
    return ""


def _items(line: str) -> list[str]:
    """Items of a list, in brackets and quotes or not."""
    line = line.strip(_AROUND)
    if line[:1] in "[({" and line[-1:] in "])}":
        line = line[1:-1]
    return [item.strip(_AROUND).casefold() for item in line.split(",")]
