"""Items from the prose of a Wikipedia dump."""

import random
import re
from pathlib import Path
from typing import Any

from runner.data.task_items.choose import multiple_choice
from runner.data.texts.wikipedia import read_wikipedia

_SENTENCE_END = re.compile(r"(?<=[a-z\d)\"”][.!?])\s+(?=[A-Z])")
_SHORTEST_SENTENCE_CHARACTERS = 40
_LONGEST_SENTENCE_CHARACTERS = 300
_CONTEXT_SENTENCES = 3
_PASSAGE_WORDS = (40, 120)
_LEAST_LETTERS = 4
_BEGINNING_WORDS = 32
_CONTINUATION_WORDS = 16
"""A paragraph must go on for so long: nobody ends one in the middle of a thought."""
_WORD = re.compile(r"[A-Za-z]+")


def next_sentences(files: list[Path], choices: int, chosen: random.Random) -> list[dict[str, Any]]:
    """One item a paragraph of four sentences or more: its first three, then the fourth or others.

    Wrong answers are fourth sentences of paragraphs of other articles.
    """
    (path,) = files
    paragraphs = [
        (article, sentences)
        for article, text in enumerate(read_wikipedia(path))
        for paragraph in text.split("\n\n")
        if len(sentences := _SENTENCE_END.split(paragraph)) > _CONTEXT_SENTENCES
        and _SHORTEST_SENTENCE_CHARACTERS
        <= len(sentences[_CONTEXT_SENTENCES])
        <= _LONGEST_SENTENCE_CHARACTERS
    ]
    items = []
    for article, sentences in paragraphs:
        # A few, drawn at once: going through all of them for every item takes minutes.
        others = chosen.sample(paragraphs, min(len(paragraphs), 8 * choices))
        wrong = [text[_CONTEXT_SENTENCES] for other, text in others if other != article]
        item = multiple_choice(
            " ".join(sentences[:_CONTEXT_SENTENCES]),
            sentences[_CONTEXT_SENTENCES],
            wrong,
            choices,
            chosen,
        )
        if item is not None:
            items.append(item)
    return items


def last_words(files: list[Path], _: int, chosen: random.Random) -> list[dict[str, Any]]:
    """One item a paragraph where there is one: a passage that ends in a word it had before.

    As in LAMBADA (arXiv 1606.06031), which asked people for such passages; here they are
    taken as they come: 40 to 120 words that end with a sentence, whose last word has four
    letters or more and stands earlier in the passage, though not within its last sentence.
    """
    (path,) = files
    items = []
    for text in read_wikipedia(path):
        for paragraph in text.split("\n\n"):
            sentences = _SENTENCE_END.split(paragraph)
            endings = [
                item
                for count in range(2, len(sentences) + 1)
                if (item := _passage(sentences[:count])) is not None
            ]
            if endings:
                items.append(chosen.choice(endings))
    return items


def continuations(files: list[Path], _: int, chosen: random.Random) -> list[dict[str, Any]]:
    """One item a paragraph: its first 32 words, to be gone on with; ``target`` is the rest."""
    (path,) = files
    items = []
    for text in read_wikipedia(path):
        for paragraph in text.split("\n\n"):
            words = paragraph.split()
            if len(words) >= _BEGINNING_WORDS + _CONTINUATION_WORDS:
                beginning, rest = words[:_BEGINNING_WORDS], words[_BEGINNING_WORDS:]
                items.append({"text": " ".join(beginning), "target": " ".join(rest)})
    return items


def _passage(sentences: list[str]) -> dict[str, Any] | None:
    """The passage without its last word, where that is worth asking for."""
    passage = " ".join(sentences)
    if not _PASSAGE_WORDS[0] <= len(passage.split()) <= _PASSAGE_WORDS[1]:
        return None
    context, _, last = passage.rpartition(" ")
    word = last.rstrip(".!?")
    if len(word) < _LEAST_LETTERS or not _WORD.fullmatch(word):
        return None
    if word not in _WORD.findall(" ".join(sentences[:-1])):
        return None
    if word in _WORD.findall(sentences[-1].rpartition(" ")[0]):
        return None
    return {"text": context, "target": word}
