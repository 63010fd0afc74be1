"""Scores answers of the suite ``instructions``: which of an item's constraints are kept?

Standard library only: the file is copied beside the task's own, where ``lm_eval`` reads it.
"""

import json
import re
import string
from collections.abc import Callable
from typing import Any

_MOST_CHARACTERS = 4_000
"""No right answer comes near; what is longer is wrong, so that checks stay cheap."""
_PUNCTUATION = string.punctuation + "\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb\u2026\u2013\u2014"
"""Typographic quotes, the ellipsis and dashes too."""
_TURN = re.compile(r"\n\s*\n|\n(?:Instruction|Answer):")
"""Where an answer is over: a blank line, or the model goes on with a next turn."""
_SENTENCE_END = re.compile("[.!?]+[\"'\u201d\u2019)]*(?:\\s+|$)")
_MARK = re.compile(r"[*•-]\s+")


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Shares of one answer.

    The answer ends at the first blank line. Where a request is to be repeated first, the other
    constraints are about what follows.

    Args:
        doc: The item; ``constraints`` is JSON text: pairs of a kind and its value.
        results: The answer.

    Returns:
        ``constraints``: the share of them that is kept, nothing for an answer without a word or
        one that says the instruction again without being told to. ``acc``: 1.0 if all are kept.
    """
    answer = _TURN.split(results[0].strip(), maxsplit=1)[0].strip()
    kept = []
    constraints = json.loads(doc["constraints"])
    for kind, value in constraints:
        if kind == "repeat":
            kept.append(answer.startswith(value))
            answer = answer.removeprefix(value).strip()
    if len(answer) > _MOST_CHARACTERS or doc["instruction"] in answer or not words(answer):
        return {"acc": 0.0, "constraints": 0.0}
    kept += [CHECKS[kind](answer, value) for kind, value in constraints if kind != "repeat"]
    return {"acc": float(all(kept)), "constraints": sum(kept) / len(kept)}


def words(text: str) -> list[str]:
    """What stands between white space and has a letter or digit, without punctuation around it."""
    stripped = (part.strip(_PUNCTUATION) for part in text.split())
    return [word for word in stripped if any(map(str.isalnum, word))]


def sentences(text: str) -> list[str]:
    """What ends with ``.``, ``!`` or ``?`` before white space; a rest without one counts too."""
    return [part for part in _SENTENCE_END.split(text) if words(part)]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _lower(text: str) -> list[str]:
    return [word.lower() for word in words(text)]


def _only(answer: str, value: list[str]) -> bool:
    return _lower(answer) == value


def _include(answer: str, value: list[str]) -> bool:
    return set(value) <= set(_lower(answer))


def _exclude(answer: str, value: list[str]) -> bool:
    return not set(value) & set(_lower(answer))


def _start(answer: str, value: str) -> bool:
    given = value.split()
    return _lower(answer)[: len(given)] == given


def _end(answer: str, value: str) -> bool:
    return _lower(answer)[-1] == value


def _times(answer: str, value: list[Any]) -> bool:
    word, times = value
    return bool(_lower(answer).count(word) == times)


def _no_letter(answer: str, value: str) -> bool:
    return value not in answer.lower()


def _bullets(answer: str, value: int) -> bool:
    lines = _lines(answer)
    return len(lines) == value and all(_MARK.match(line) and words(line) for line in lines)


def _numbered(answer: str, value: int) -> bool:
    lines = _lines(answer)
    return len(lines) == value and all(
        re.match(rf"{number}[.)]\s", line) and len(words(line)) > 1
        for number, line in enumerate(lines, start=1)
    )


def _parts(answer: str, value: list[Any]) -> bool:
    separator, count = value
    parts = answer.split(separator)
    return len(parts) == count and all(map(words, parts))


def _json(answer: str, value: list[str]) -> bool:
    start = answer.find("{")
    try:
        found, _ = json.JSONDecoder().raw_decode(answer[max(start, 0) :])
    # Too deep, or an integer with more digits than Python reads.
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and list(found) == value


def _initials(answer: str) -> str:
    """First letters of the lines' first words; a line without a word stands for itself."""
    return "".join((words(line) or [line])[0][0].lower() for line in _lines(answer))


def _lengths(answer: str, value: list[int]) -> bool:
    return [sum(map(str.isalpha, word)) for word in words(answer)] == value


CHECKS: dict[str, Callable[[str, Any], bool]] = {
    "only": _only,
    "include": _include,
    "exclude": _exclude,
    "start": _start,
    "end": _end,
    "times": _times,
    "no_letter": _no_letter,
    "bullets": _bullets,
    "numbered": _numbered,
    "parts": _parts,
    "json": _json,
    "lengths": _lengths,
    "words": lambda answer, value: len(words(answer)) == value,
    "between": lambda answer, value: value[0] <= len(words(answer)) <= value[1],
    "sentences": lambda answer, value: len(sentences(answer)) == value,
    "upper": lambda answer, _: answer == answer.upper(),
    "lower": lambda answer, _: answer == answer.lower(),
    "quoted": lambda answer, _: len(answer) > 1 and answer[0] == answer[-1] == '"',
    "line_words": lambda answer, value: all(len(words(ln)) == value for ln in _lines(answer)),
    "acrostic": lambda answer, value: _initials(answer) == value,
}
"""By kind: whether an answer of at least one word keeps the constraint's value."""
