"""Items from WordNet's nouns (data format: the manual page ``wndb(5WN)``)."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.task_items.choose import multiple_choice

_LEAST_USES = 2
"""Times a noun was met in texts whose senses were tagged; most of WordNet never was."""
_GLOSS_CHARACTERS = (20, 120)


@dataclass(frozen=True)
class _Noun:
    """A sense of a noun that is a single common word."""

    word: str
    field: str
    """WordNet's field, such as animals or food."""
    gloss: str
    kinds: tuple[str, ...]
    """Synsets it is a kind of."""


def common_nouns(files: list[Path]) -> list[str]:
    """Common nouns of a single word, in alphabetical order."""
    nouns, _ = _read(*files[:2])
    return sorted({noun.word for noun in nouns})


def definitions(files: list[Path], choices: int, chosen: random.Random) -> list[dict[str, Any]]:
    """One item a common noun: its gloss, then it or others of its field."""
    nouns, _ = _read(*files[:2])
    by_field: dict[str, list[str]] = {}
    for noun in nouns:
        by_field.setdefault(noun.field, []).append(noun.word)
    items = []
    for noun in nouns:
        low, high = _GLOSS_CHARACTERS
        if not low <= len(noun.gloss) <= high or noun.word in noun.gloss:
            continue
        text = f"Definition: {noun.gloss}.\nWord:"
        item = multiple_choice(text, noun.word, by_field[noun.field], choices, chosen)
        if item is not None:
            items.append(item)
    return items


def kinds(files: list[Path], choices: int, chosen: random.Random) -> list[dict[str, Any]]:
    """One item a common noun: what it is a kind of, or what others are a kind of.

    Nothing that it is a kind of indirectly is among the wrong answers.
    """
    nouns, synsets = _read(*files[:2])
    every = sorted({_name(synsets, noun.kinds[0]) for noun in nouns if noun.kinds} - {""})
    items = []
    for noun in nouns:
        right = _name(synsets, noun.kinds[0]) if noun.kinds else ""
        if not right or right in noun.word or noun.word in right:
            continue
        above = _all_above(synsets, noun.kinds)
        wrong = [name for name in every if name not in above]
        # A few, drawn at once: sorting all of them for every item takes a while.
        wrong = chosen.sample(wrong, min(len(wrong), 4 * choices))
        article = "An" if noun.word[0] in "aeiou" else "A"
        item = multiple_choice(f"{article} {noun.word} is a kind of", right, wrong, choices, chosen)
        if item is not None:
            items.append(item)
    return items


@dataclass(frozen=True)
class _Synset:
    words: tuple[str, ...]
    kinds: tuple[str, ...]


def _read(data: Path, counts: Path) -> tuple[list[_Noun], dict[str, _Synset]]:
    """Common nouns in their first sense, and all synsets of nouns by their offset."""
    common = _common(counts)
    synsets: dict[str, _Synset] = {}
    nouns = []
    for line in data.read_text("utf-8").splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        parts = fields.split()
        offset, field, number = parts[0], parts[1], int(parts[3], 16)
        senses = [(parts[4 + 2 * i], int(parts[5 + 2 * i], 16)) for i in range(number)]
        pointers = parts[4 + 2 * number + 1 :]
        above = tuple(pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] == "@")
        synsets[offset] = _Synset(tuple(word for word, _ in senses), above)
        word, identity = senses[0]
        if (word, int(field), identity) in common and word.isalpha() and word.islower():
            nouns.append(_Noun(word, field, _plain(gloss), above))
    return nouns, synsets


def _common(counts: Path) -> set[tuple[str, int, int]]:
    """(word, field, identity in it) of nouns whose first sense was met often enough.

    A line is such as ``dog%1:05:00:: 1 42``: key of the sense, its number, times it was met.
    """
    common = set()
    for line in counts.read_text("utf-8").splitlines():
        key, number, uses = line.split()
        word, _, rest = key.partition("%")
        kind, field, identity, *_ = rest.split(":")
        if kind == "1" and number == "1" and int(uses) >= _LEAST_USES:
            common.add((word, int(field), int(identity)))
    return common


def _plain(gloss: str) -> str:
    """A gloss without its examples."""
    return gloss.split('; "', maxsplit=1)[0].split(";", maxsplit=1)[0].strip()


def _name(synsets: dict[str, _Synset], offset: str) -> str:
    """The first word of a synset as it is written; nothing when it is no common noun."""
    name = synsets[offset].words[0].replace("_", " ")
    return name if name.islower() else ""


def _all_above(synsets: dict[str, _Synset], offsets: tuple[str, ...]) -> set[str]:
    """Every word for what is a kind above, however far."""
    above: set[str] = set()
    left = list(offsets)
    seen = set(left)
    while left:
        synset = synsets[left.pop()]
        above.update(word.replace("_", " ") for word in synset.words)
        left += [offset for offset in synset.kinds if offset not in seen]
        seen.update(synset.kinds)
    return above
