"""Windows spread evenly over a text's documents; only these windows are tokenized.

One article says little of the next: windows of many tell more than as many windows of one. A
document is a place for a window; shorter ones are joined until they hold one, and where windows
outnumber documents, long ones give several places. Nothing is drawn by chance.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runner.data.texts.degenerate import LEFT_OUT, is_degenerate
from runner.errors import StageError

SEPARATOR = "\n\n"
_GOLDEN = 0.6180339887498949
"""Its multiples' fractions fall evenly between 0 and 1, however many are taken (Weyl)."""
_MARGIN = 1.25
"""A window is looked for in so many times the characters that it has on average."""
_CUT_TOKENS = 16
"""Where a text is cut off, its last tokens may differ from those of the whole."""
_TRIES = 4
_PROBES, _PROBE_CHARACTERS = 8, 2000
_WORD_CHARACTERS = 200
_SPACE, _WORD = re.compile(r"\s+"), re.compile(r"\b\w")


@dataclass(frozen=True)
class Spread:
    """Windows in the order of the text, without special tokens."""

    windows: list[list[int]]
    documents: list[int]
    """Of each window, the number of its document, or of the first of those it was joined from."""
    left_out: int
    """Windows of almost no distinct tokens that were passed over."""


def encode_plain(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text without what a tokenizer puts around it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def spread_windows(tokenizer: Any, documents: list[str], length: int, count: int) -> Spread:
    """Cut ``count`` disjoint windows of ``length`` tokens, evenly over the documents.

    Each begins where a word does and lies within one place. A text that is too tight for that is
    cut as one, to the last token.

    Raises:
        StageError: The text is too short.
    """
    wide = _characters_of_window(tokenizer, documents, length)
    places = list(_places(documents, wide, count))
    if len(places) < count:
        return _cut_tight(tokenizer, documents, length, count)
    cutter = _Cutter(tokenizer, documents, length, wide)
    wanted = evenly(len(places), count)
    spare = sorted(set(range(len(places))) - set(wanted))
    windows: dict[int, list[int]] = {}
    for number, first in enumerate(wanted):
        tried = first
        while (window := cutter.cut(places[tried], number)) is None:
            if not spare:
                return _cut_tight(tokenizer, documents, length, count)
            tried = min(spare, key=lambda other: (abs(other - first), other))
            spare.remove(tried)
        windows[tried] = window
    order = sorted(windows)
    return Spread(
        [windows[place] for place in order],
        [places[place].first for place in order],
        cutter.left_out,
    )


def evenly(among: int, count: int) -> list[int]:
    """The middles of ``count`` equal parts of ``among`` things; no fewer of these than of those."""
    return [(2 * number + 1) * among // (2 * count) for number in range(count)]


@dataclass(frozen=True)
class _Place:
    """One part of ``parts`` equal ones of the documents from ``first`` on, ``end`` excluded."""

    first: int
    end: int
    part: int = 0
    parts: int = 1


def _characters_of_window(tokenizer: Any, documents: list[str], length: int) -> int:
    """Characters that a window hardly ever exceeds, from pieces of documents all over the text."""
    characters = tokens = 0
    for number in evenly(len(documents), min(_PROBES, len(documents))):
        middle = max(0, (len(documents[number]) - _PROBE_CHARACTERS) // 2)
        piece = documents[number][middle : middle + _PROBE_CHARACTERS]
        characters += len(piece)
        tokens += len(encode_plain(tokenizer, piece))
    return max(length, int(_MARGIN * length * characters / max(1, tokens)))


def _places(documents: list[str], wide: int, count: int) -> Iterator[_Place]:
    """Where a window fits: each document; parts of documents where these are too few.

    Twice as many parts as are wanted, if there is room, so that some can be passed over.
    """
    units = list(_joined(documents, wide))
    if len(units) >= count:
        for (first, end), _ in units:
            yield _Place(first, end)
        return
    room = [max(1, size // wide) for _, size in units]
    for ((first, end), _), parts in zip(units, _shared_out(room, 2 * count), strict=True):
        for part in range(parts):
            yield _Place(first, end, part, parts)


def _joined(documents: list[str], wide: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Runs of documents that hold a window, and their characters; a long one is a run of its own.

    What is left at the end belongs to the last run.
    """
    last: tuple[tuple[int, int], int] | None = None
    first = size = 0
    for number, document in enumerate(documents, start=1):
        size += len(document) + (len(SEPARATOR) if number - 1 > first else 0)
        if size >= wide:
            if last is not None:
                yield last
            last, first, size = ((first, number), size), number, 0
    if last is None:
        yield (0, len(documents)), size
    else:
        (start, _), before = last
        yield (start, len(documents)), before + size


def _shared_out(room: list[int], total: int) -> list[int]:
    """Equal shares of a total, none larger than its room."""
    shares = [0] * len(room)
    while left := min(total, sum(room)) - sum(shares):
        open_ = [number for number, share in enumerate(shares) if share < room[number]]
        chosen = open_ if left >= len(open_) else [open_[i] for i in evenly(len(open_), left)]
        # As many rounds at once as all that are still open can take part in.
        rounds = max(1, min([left // len(open_), *(room[n] - shares[n] for n in open_)]))
        for number in chosen:
            shares[number] += rounds
    return shares


class _Cutter:
    """Tokenizes no more of a place than its window needs."""

    def __init__(self, tokenizer: Any, documents: list[str], length: int, wide: int) -> None:
        self.left_out = 0
        self._tokenizer, self._documents = tokenizer, documents
        self._length, self._wide = length, wide
        self._text: tuple[tuple[int, int], str] = (0, 0), ""

    def cut(self, place: _Place, number: int) -> list[int] | None:
        """The place's window; ``None`` where it holds none that says anything."""
        text = self._joined(place)
        begin, end = (
            word_start(text, len(text) * part // place.parts)
            for part in (place.part, place.part + 1)
        )
        slack = max(0, end - begin - self._wide)
        within = (((number + 1) * _GOLDEN + again / _TRIES) % 1 for again in range(_TRIES))
        starts = [word_start(text, begin + int(part * slack)) for part in within]
        for start in dict.fromkeys([*starts, begin]):
            window = self._window(text, start, end)
            if window is not None and not is_degenerate(window):
                return window
            self.left_out += window is not None
        return None

    def _joined(self, place: _Place) -> str:
        run = (place.first, place.end)
        if self._text[0] != run:
            self._text = run, SEPARATOR.join(self._documents[place.first : place.end])
        return self._text[1]

    def _window(self, text: str, start: int, end: int) -> list[int] | None:
        """The first tokens of a piece of text; ``None`` where there are not enough."""
        size = self._wide
        while True:
            piece = text[start : min(end, start + size)]
            ids = encode_plain(self._tokenizer, piece)
            if len(ids) >= self._length + _CUT_TOKENS or start + size >= end:
                return ids[: self._length] if len(ids) >= self._length else None
            size *= 2


def word_start(text: str, place: int) -> int:
    """Where the next word begins, from a place on; there where nothing parts words."""
    if place <= 0 or place >= len(text):
        return max(0, min(place, len(text)))
    if text[place - 1].isspace() and not text[place].isspace():
        return place
    limit = place + _WORD_CHARACTERS
    if space := _SPACE.search(text, place, limit):
        return space.end()
    if word := _WORD.search(text, place, limit):
        return word.start()
    while place < len(text) and _belongs_to_the_last(text[place]):
        place += 1
    return place


def _belongs_to_the_last(character: str) -> bool:
    """Accents and what else is drawn onto the character before."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


def _cut_tight(tokenizer: Any, documents: list[str], length: int, count: int) -> Spread:
    """Windows of all documents joined, each document tokenized by itself: nothing is wasted."""
    ids: list[int] = []
    starts = []
    for number, document in enumerate(documents):
        starts.append(len(ids))
        ends = SEPARATOR if number + 1 < len(documents) else ""
        ids += encode_plain(tokenizer, document + ends)
    there = len(ids) // length
    require_enough(len(ids), length, count)
    cuts = [number * len(ids) // there for number in range(there)]
    good = [cut for cut in cuts if not is_degenerate(ids[cut : cut + length])]
    if len(good) < count:
        raise StageError(
            f"of the text's {there} windows of {length} tokens {there - len(good)} have {LEFT_OUT} "
            f"and are left out, but {count} are asked for: reduce the number of windows"
        )
    chosen = [good[number] for number in evenly(len(good), count)]
    return Spread(
        [ids[cut : cut + length] for cut in chosen],
        documents_of(chosen, starts),
        there - len(good),
    )


def documents_of(places: Sequence[int], starts: Sequence[int]) -> list[int]:
    """The documents that tokens lie in, given where each document's first token is."""
    from bisect import bisect_right

    return [bisect_right(starts, place) - 1 for place in places]


def require_enough(tokens: int, length: int, count: int) -> None:
    """See that a text has the tokens that are asked for.

    Raises:
        StageError: It has not.
    """
    if tokens // length < count:
        raise StageError(
            f"the text has {tokens} tokens, enough for {tokens // length} windows of {length}, but "
            f"{count} are asked for: reduce the number of windows or their length"
        )
