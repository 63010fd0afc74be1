"""Sequences of words that two texts have in common."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LARGE_SHARE = 0.01
"""Of 8-word sequences. Distinct texts share a few idioms: well below this."""
LARGE_LONG_SHARE = 0.001
"""Of 13-word sequences, which distinct texts do not share but for quotations."""
_WORD = re.compile(r"\w+")


@dataclass
class Overlap:
    """Share of a text's word n-grams that occur in another text."""

    words: int
    """Length of a sequence: 8, or the 13 of GPT-3's contamination study (arXiv 2005.14165)."""
    share: float
    shared: int
    total: int
    """Sequences in the evaluated text, repeated ones counted each time."""
    example: str | None
    """The first one in common."""


def overlap(evaluated: list[str], seen: list[str], words: int) -> Overlap:
    """How many sequences of ``words`` words of pieces of a text occur in any of the pieces seen.

    Words are compared without case and punctuation. Sequences do not reach from one piece
    into another.
    """
    known = {ngram for piece in seen for ngram in _ngrams(piece, words)}
    total = shared = 0
    example = None
    for ngram in (ngram for piece in evaluated for ngram in _ngrams(piece, words)):
        total += 1
        if ngram in known:
            shared += 1
            example = example or " ".join(ngram)
    return Overlap(words, shared / total if total else 0.0, shared, total, example)


def _ngrams(text: str, words: int) -> Iterator[tuple[str, ...]]:
    tokens = _WORD.findall(text.lower())
    return (tuple(tokens[i : i + words]) for i in range(len(tokens) - words + 1))
