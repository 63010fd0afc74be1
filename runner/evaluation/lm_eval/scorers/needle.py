"""Scores codes that were to be found in a text; read by lm-evaluation-harness, alone."""

import re
from typing import Any

_READ_CHARACTERS = 2000
_GROUPED = re.compile(r"(?<![0-9,])([0-9]{2}),([0-9]{3})(?![0-9,])")
_CODE = re.compile(r"(?<![0-9])[0-9]{5}(?![0-9])")


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the first codes of the answer are the right ones, in any order; and what share.

    Args:
        doc: The item.
        results: The answer.
    """
    answer = str(results[0])[:_READ_CHARACTERS] if results else ""
    right = set(_CODE.findall(doc["target"]))
    said = set(_CODE.findall(_GROUPED.sub(r"\1\2", answer))[: len(right)])
    return {"acc": float(said == right), "found": len(said & right) / len(right)}
