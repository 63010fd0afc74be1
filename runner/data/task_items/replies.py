"""Instructions of an open answer, about common nouns."""

import random
from pathlib import Path
from typing import Any

from runner.data.task_items.wordnet import common_nouns

_INSTRUCTIONS = (
    "What is meant by the word \u201c{0}\u201d? Answer in two or three sentences.",
    "Write a short story in which the words \u201c{0}\u201d and \u201c{1}\u201d occur.",
    "Name five things that people connect with the word \u201c{0}\u201d, as a list.",
    "Write a short poem that mentions the word \u201c{0}\u201d.",
    "How would you explain the word \u201c{0}\u201d to a child?",
    "What do \u201c{0}\u201d and \u201c{1}\u201d have in common, and what sets them apart?",
    "Write an e-mail to a colleague that mentions \u201c{0}\u201d and asks about \u201c{1}\u201d.",
    "Give three example sentences with the word \u201c{0}\u201d, one a line.",
)
_DRAWS = 1500
"""Items made: as many draws of nouns."""


def replies(files: list[Path], _: int, chosen: random.Random) -> list[dict[str, Any]]:
    """Each instruction as often as the others, its nouns drawn; no answer is the right one."""
    nouns = common_nouns(files)
    made = {}
    for number in range(_DRAWS):
        text = _INSTRUCTIONS[number % len(_INSTRUCTIONS)].format(*chosen.sample(nouns, 2))
        made[text] = {"text": text, "target": ""}
    return list(made.values())
