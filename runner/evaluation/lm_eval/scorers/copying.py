"""Scores names and numbers that were to be copied or translated; read by the harness, alone."""

import re
import unicodedata
from typing import Any

_READ_CHARACTERS = 2000
_MARK = re.compile(r"^[\s*]*(?:answer|text)[\s*]*:[\s*]*", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*[,;،、\uff0c]\s*")
_AROUND = " \t\"'`*.“”«»。"


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the answer's first line is the right one; what share of its characters.

    Args:
        doc: The item.
        results: The answer.

    Returns:
        ``acc``, the same as ``acc_rare`` or ``acc_common``, so that the harness tells the mean of
        rare scripts and languages and that of the others, and ``before_first_error``: the share of
        the right answer's characters that stand before the first one that is wrong.
    """
    answer = _plain(str(results[0])[:_READ_CHARACTERS] if results else "")
    right = _plain(doc["target"])
    same = 0
    while same < min(len(answer), len(right)) and answer[same] == right[same]:
        same += 1
    group = "acc_rare" if doc["rare"] else "acc_common"
    is_right = float(answer == right)
    return {"acc": is_right, group: is_right, "before_first_error": same / len(right)}


def _plain(answer: str) -> str:
    """The first line with something in it, in Unicode's composed form."""
    lines = (line.strip() for line in answer.splitlines())
    line = next((line for line in lines if line), "")
    line = unicodedata.normalize("NFC", _MARK.sub("", line)).strip(_AROUND)
    return ", ".join(part.strip(_AROUND) for part in _BETWEEN.split(line))
