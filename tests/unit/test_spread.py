"""Windows spread over a text's documents: where they lie, and what they cost."""

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from runner.data.texts.spread import evenly, spread_windows, word_start
from runner.errors import StageError

pytestmark = pytest.mark.unit


class Words:
    """A tokenizer of characters, words, or pieces of four characters; counts what it is given."""

    def __init__(self, size: int = 1) -> None:
        self._size = size
        self.characters = 0
        self.known: dict[str, int] = {}

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        assert not add_special_tokens
        self.characters += len(text)
        pieces = (text[at : at + self._size] for at in range(0, len(text), self._size))
        return {"input_ids": [self.known.setdefault(one, len(self.known)) for one in pieces]}

    def text(self, ids: list[int]) -> str:
        back = {number: piece for piece, number in self.known.items()}
        return "".join(back[number] for number in ids)


def prose(characters: int, seed: int, separator: str = " ") -> str:
    chosen = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words: list[str] = []
    length = 0
    while length < characters:
        words.append("".join(chosen.choices(letters, k=chosen.randint(1, 9))))
        length += len(words[-1]) + 1
    return separator.join(words)[:characters].strip()


def check_whole(tokenizer: Words, documents: list[str], found: Any, length: int) -> None:
    """Every window is full, of its document (or the join), and shares no place with another."""
    joined = "\n\n".join(documents)
    spans = []
    for window in found.windows:
        assert len(window) == length
        text = tokenizer.text(window)
        assert text in joined
        spans.append(joined.index(text))
    assert len(found.documents) == len(found.windows)
    assert found.documents == sorted(found.documents)
    if len(set(spans)) == len(spans):
        ends = [
            begin + len(tokenizer.text(w)) for begin, w in zip(spans, found.windows, strict=True)
        ]
        assert all(end <= begin for end, (_, begin) in zip(ends, pairwise(spans), strict=False))


def test_one_window_a_document_evenly_and_not_always_at_the_start() -> None:
    documents = [prose(2000, seed) for seed in range(90)]
    tokenizer = Words()
    found = spread_windows(tokenizer, documents, 100, 30)
    assert found.documents == evenly(90, 30) == list(range(1, 90, 3))
    check_whole(tokenizer, documents, found, 100)
    begins = [
        documents[number].index(tokenizer.text(window)) / 2000
        for number, window in zip(found.documents, found.windows, strict=True)
    ]
    thirds = Counter(int(begin * 3) for begin in begins)
    assert set(thirds) == {0, 1, 2} and min(thirds.values()) >= 7, thirds
    assert all(
        documents[number][place - 1].isspace()
        for number, window in zip(found.documents, found.windows, strict=True)
        if (place := documents[number].index(tokenizer.text(window)))
    ), "a window begins where a word does"
    assert spread_windows(Words(), documents, 100, 30) == found, "nothing is drawn by chance"


@pytest.mark.parametrize("count", [1, 2, 7, 16, 50])
@pytest.mark.parametrize(
    "documents",
    [
        pytest.param([prose(60_000, 0)], id="one document"),
        pytest.param([prose(random.Random(n).randint(5, 90), n) for n in range(1500)], id="lines"),
        pytest.param([prose(150, n) for n in range(400)], id="all shorter than a window"),
        pytest.param([prose(15_000, n) for n in range(4)], id="more windows than documents"),
        pytest.param([prose(40_000, 1), *[prose(30, n) for n in range(700)]], id="one long"),
        pytest.param([prose(9_000, n, "。").replace("e", "é") for n in range(8)], id="no spaces"),
        pytest.param(["日本語です。" * 3 + prose(900, n, "の") for n in range(60)], id="kana"),
    ],
)  # fmt: skip
def test_windows_of_any_text_are_full_and_disjoint(documents: list[str], count: int) -> None:
    tokenizer = Words()
    found = spread_windows(tokenizer, documents, 256, count)
    assert len(found.windows) == count
    check_whole(tokenizer, documents, found, 256)
    if len(documents) == 4:
        shares = Counter(found.documents).values()
        assert max(shares) - min(shares) <= 1 or count < 4, "as many of each document"


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_exactly_enough_tokens_are_enough_and_one_less_is_said(size: int, count: int) -> None:
    whole = prose(count * 32 * size + 40, 3).replace(" ", "_")[: count * 32 * size]
    for documents in (
        [whole],
        [whole[: 40 * size - 2], whole[40 * size :]] if count > 2 else [whole],
    ):
        tokenizer = Words(size)
        found = spread_windows(tokenizer, documents, 32, count)
        assert [len(window) for window in found.windows] == [32] * count
    assert "".join(map(Words(size).text, [])) == ""
    with pytest.raises(StageError, match=rf"has {count * 32 - 1} tokens, enough for {count - 1} "):
        spread_windows(Words(size), [whole[:-size]], 32, count)


def test_windows_that_say_nothing_are_passed_over_and_counted() -> None:
    documents = ["no " * 1000 if number % 3 == 1 else prose(3000, number) for number in range(90)]
    tokenizer = Words()
    found = spread_windows(tokenizer, documents, 100, 30)
    assert len(set(found.documents)) == 30
    assert {number % 3 for number in found.documents} <= {0, 2}
    assert found.left_out >= 30
    half = prose(20_000, 1) + " " + "bihl " * 4000
    found = spread_windows(Words(), [half], 100, 16)
    assert len(found.windows) == 16 and found.left_out
    with pytest.raises(StageError, match=r"almost no distinct tokens.*but 4 are asked for"):
        spread_windows(Words(), ["bihl " * 4000], 100, 4)


def test_the_cost_follows_the_windows_not_the_text() -> None:
    costs = []
    for documents in ([prose(3000, n) for n in range(50)] * k for k in (1, 100)):
        tokenizer = Words()
        spread_windows(tokenizer, documents, 100, 16)
        costs.append(tokenizer.characters)
    one = Words()
    spread_windows(one, [prose(5000, 0) * 600], 100, 16)
    costs.append(one.characters)
    assert max(costs) < 16 * 100 * 2 + 8 * 2000 + 100


def test_words_are_not_cut_where_there_are_words() -> None:
    assert word_start("one two", 0) == 0
    assert word_start("one two", 1) == word_start("one two", 4) == 4
    assert word_start("one two", 7) == 7
    assert word_start("path/of/a-file" * 20, 2) == 5, "where nothing is blank, by what parts words"
    assert word_start("あ" * 500, 250) == 250, "where nothing parts words, anywhere"
    assert word_start("e\u0301" * 500, 501) == 502, "but not before an accent"
    assert word_start("\u2764\ufe0f" * 500, 501) == 502, "nor where no word follows"
