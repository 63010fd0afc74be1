"""Scores a number that was to be followed to; read by lm-evaluation-harness, alone."""

import re
from typing import Any

_READ_CHARACTERS = 2000
_GROUPED = re.compile(r"(?<![0-9,])([0-9]{2}),([0-9]{3})(?![0-9,])")
_NUMBER = re.compile(r"(?<![0-9])[0-9]{5}(?![0-9])")


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the answer's first number of five digits is the right one.

    Args:
        doc: The item.
        results: The answer.
    """
    answer = str(results[0])[:_READ_CHARACTERS] if results else ""
    said = _NUMBER.search(_GROUPED.sub(r"\1\2", answer))
    return {"acc": float(said is not None and said[0] == doc["target"].rstrip("."))}
