"""What counts as a window of almost no distinct tokens, in vocabularies of bytes and of words."""

import base64
import random
import re
from collections.abc import Callable

import pytest

from runner.data.texts.degenerate import is_degenerate

pytestmark = pytest.mark.unit

Tokens = list[int]


def by_bytes(text: str) -> Tokens:
    return list(text.encode())


def by_words(text: str) -> Tokens:
    """A token a word, a digit, up to four of a sign."""
    pieces = (match.group() for match in re.finditer(r"[^\W\d]+|\d|(.)\1{0,3}|\n{1,4}", text))
    ids: dict[str, int] = {}
    return [ids.setdefault(piece, len(ids)) for piece in pieces]


CHOSEN = random.Random(0)
LIST = [
    "".join(CHOSEN.choice("aeioulnrst") for _ in range(CHOSEN.randint(2, 8))) for _ in range(300)
]
PHRASE = "the old clock in the hall strikes ten while nobody hears it and rain runs down the pane "
JUNK = {
    "a word": "bihl " * 5000,
    "two signs": "=-" * 5000,
    "dots": "." * 40000,
    "rows of dots": ("." * 61 + "\n") * 600,
    "blank lines": "\n" * 40000,
    "zeros": "0.0, " * 5000,
    "cells": "<td>0</td>" * 5000,
    "the same record": "2024,yes,0\n" * 5000,
}
CODE = "\n".join(
    f"def part_{n}(first, second={n}):\n    '''Part {n} of {n % 7}.'''\n    if first > {n * 3}:\n"
    f"        return [first * {n}, second]\n    return part_{n - 1}(second, first % {n + 2})\n"
    for n in range(1, 400)
)
TEXT = {
    "code": CODE,
    "numbers": ", ".join(map(str, range(1, 9000))),
    "digits": "".join(CHOSEN.choice("0123456789") for _ in range(30000)),
    "base64": base64.b64encode(CHOSEN.randbytes(20000)).decode(),
    "hexadecimal": "\n".join(f"{n * 16:08x}: {CHOSEN.randbytes(16).hex(' ')}" for n in range(600)),
    "a table": "\n".join(f"| {n} | {CHOSEN.random():.3f} | {n % 3} |" for n in range(2000)),
    "a log": "\n".join(
        f"2024-01-{n % 28 + 1:02d} 12:{n % 60:02d}:01 INFO request {CHOSEN.randint(1000, 9999)}"
        for n in range(2000)
    ),
    "a song with a refrain": "".join(
        " ".join(CHOSEN.choice(LIST) for _ in range(24))
        + "\nwhat shall we do with a drunken sailor\n"
        "early in the morning\n"
        for _ in range(400)
    ),
    "Chinese": "".join(chr(0x4E00 + CHOSEN.randint(0, 900)) for _ in range(9000)),
}


def windows(ids: Tokens, length: int) -> list[Tokens]:
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]


@pytest.mark.parametrize("length", [128, 512, 2048])
@pytest.mark.parametrize("split", [by_bytes, by_words])
@pytest.mark.parametrize("name", JUNK)
def test_what_is_repeated_is_told(name: str, split: Callable[[str], Tokens], length: int) -> None:
    found = windows(split(JUNK[name] * 4), length)
    assert found
    assert all(map(is_degenerate, found))


@pytest.mark.parametrize("length", [64, 128, 256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("split", [by_bytes, by_words])
@pytest.mark.parametrize("name", TEXT)
def test_what_only_looks_like_it_is_not(
    name: str, split: Callable[[str], Tokens], length: int
) -> None:
    assert not any(map(is_degenerate, windows(split(TEXT[name]), length)))


def test_the_limit_follows_the_length() -> None:
    """A sentence said twice is a refrain; said a dozen times it is junk."""
    ids = by_words(PHRASE * 200)
    period = len(by_words(PHRASE))
    told = {length: is_degenerate(ids[:length]) for length in (2 * period, 4 * period, 12 * period)}
    assert list(told.values()) == [False, False, True]
    # A paragraph of 250 tokens is no junk in windows that hold it seven times.
    paragraph = list(range(250)) * 100
    assert [is_degenerate(paragraph[:n]) for n in (512, 1792, 2048, 16384)] == [
        False, False, True, True,
    ]  # fmt: skip
    assert not is_degenerate(list(range(16384)))


@pytest.mark.parametrize("length", range(11))
def test_too_short_to_tell(length: int) -> None:
    assert not is_degenerate([7] * length)


def test_from_eleven_tokens_on_a_single_one_is_told() -> None:
    assert is_degenerate([7] * 11)
