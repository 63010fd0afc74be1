"""Long texts with sentences hidden in them: what a model has to find is among prose."""

import functools
import random
import re
from pathlib import Path

from runner.data.texts.wikipedia import read_wikipedia
from runner.errors import UsageError

_SENTENCE_END = re.compile(r"(?<=[a-z)\"”][.!?])\s+(?=[A-Z])")
_SENTENCE_CHARACTERS = (30, 200)
_PARTS = re.compile(r"[A-Za-z]+|\s+|.", re.DOTALL)
_LETTERS_OF_A_TOKEN = {False: 7, True: 4}
"""Fewer in a word with a capital, which is often a name."""


def tokens_at_most(text: str) -> int:
    """An upper estimate of a text's tokens, whatever the tokenizer.

    Words count one for every seven letters begun, or four with a capital, all else and words
    in capitals one a character. Texts of ``sentences`` have 14 to 16% fewer with the tokenizers of
    both packaged models, and none of 32 sentences or more has as many.
    """
    return sum(map(_tokens_of_a_part, _PARTS.findall(text)))


def _tokens_of_a_part(part: str) -> int:
    if not part[0].isalpha() or (part.isupper() and len(part) > 1):
        return len(part.strip())
    return -(-len(part) // _LETTERS_OF_A_TOKEN[part[0].isupper()])


@functools.cache
def sentences(path: Path) -> tuple[tuple[str, int], ...]:
    """Sentences of a Wikipedia dump, each with its tokens by ``tokens_at_most``.

    Those of medium length, in ASCII, without a digit: numbers are what is hidden among them.

    Raises:
        ValueError: There is no such sentence.
    """
    low, high = _SENTENCE_CHARACTERS
    found = (
        sentence
        for article in read_wikipedia(path)
        for paragraph in article.split("\n\n")
        for sentence in _SENTENCE_END.split(paragraph)
        if low <= len(sentence) <= high and sentence.isascii()
    )
    kept = dict.fromkeys(s for s in found if not any(map(str.isdigit, s)))
    if not kept:
        raise ValueError("no article has a sentence without a digit")
    return tuple((sentence, tokens_at_most(sentence)) for sentence in kept)


def hide(
    hidden: list[str], among: tuple[tuple[str, int], ...], tokens: int, chosen: random.Random
) -> tuple[str, list[int]]:
    """A text of consecutive sentences with others put between them, in their order.

    Args:
        hidden: Sentences to put in.
        among: Of ``sentences``; the text starts at one that is drawn.
        tokens: Most tokens of the whole text, by ``tokens_at_most``.
        chosen: Draws the start and the places.

    Returns:
        The text, and where each hidden sentence begins, in percent of its characters.

    Raises:
        UsageError: There is no room for them.
    """
    left = tokens - sum(map(tokens_at_most, hidden))
    if left < 0:
        raise UsageError(
            f"a level is too short for what is hidden in its texts, by {-left} tokens; leave it "
            "out of levels"
        )
    start = chosen.randrange(len(among))
    around: list[str] = []
    while True:
        sentence, length = among[(start + len(around)) % len(among)]
        left -= length
        if left < 0:
            break
        around.append(sentence)
    places = sorted(chosen.randrange(len(around) + 1) for _ in hidden)
    for number, (place, sentence) in enumerate(zip(places, hidden, strict=True)):
        around.insert(place + number, sentence)
    starts = [0]
    for sentence in around:
        starts.append(starts[-1] + len(sentence) + 1)
    found = [starts[place + number] for number, place in enumerate(places)]
    return " ".join(around), [round(100 * at / starts[-1]) for at in found]
