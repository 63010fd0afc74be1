"""Names and numbers in several scripts, to be copied and to be translated."""

import functools
import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner.data.task_items.copying.number_words import in_words, languages
from runner.data.task_items.copying.scripts import Script, scripts
from runner.data.task_items.levels import distinct
from runner.data.texts.wikipedia import read_wikipedia

_WORD = re.compile(r"[^\W\d_]{3,12}")
_EXAMPLE_PAIRS = 4
_DIGITS = "0123456789"


def copying(
    files: list[Path], level: int, count: int, chosen: random.Random
) -> list[dict[str, Any]]:
    """Items of a level, of every script in turn.

    From level 1 on: one word copied; a word and a number; two words and a number; three words and
    two numbers; two names translated by a list of pairs; a number of five digits written in the
    digits of another script, which are told; two numbers written out in words; the words and
    numbers of level 4 in reverse order; and from level 9 on four, eight, twelve … numbers in digits
    of another script, sorted.

    Args:
        files: A Wikipedia dump, whose words in other scripts are copied besides names.
        level: From 1 on.
        count: Items.
        chosen: Draws them.
    """
    (path,) = files
    every = scripts()
    found = _words(path)
    words = {one.name: (*one.names, *found.get(one.name, ())) for one in every}
    with_digits = [one for one in every if one.zero is not None]
    makers: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: _copy(next(turn), words, 1, chosen),
        lambda: _copy(next(turn), words, 2, chosen),
        lambda: _copy(next(turn), words, 3, chosen),
        lambda: _copy(next(turn), words, 5, chosen),
        lambda: _by_a_list(next(turn), every[0], chosen),
        lambda: _digits(next(turn), chosen),
        lambda: _from_words(chosen),
        lambda: _copy(next(turn), words, 5, chosen, backwards=True),
        lambda: _sorted(next(turn), 4 * (level - 8), chosen),
    )
    make = makers[min(level, len(makers)) - 1]
    of = {5: every[1:], 6: with_digits}.get(level, with_digits if level >= len(makers) else every)
    turn = _in_turn(of, chosen)
    items = distinct(make, count, key="target")
    return [{**item, "level": level} for item in items]


def _in_turn(of: Sequence[Script], chosen: random.Random) -> Any:
    while True:
        order = list(of)
        chosen.shuffle(order)
        yield from order


def _item(text: str, target: str, kind: str, script: str, rare: bool) -> dict[str, Any]:
    return {
        "text": f"{text}\nAnswer:",
        "target": target,
        "kind": kind,
        "script": script,
        "rare": int(rare),
    }


def _copy(
    script: Script,
    words: dict[str, tuple[str, ...]],
    number: int,
    chosen: random.Random,
    backwards: bool = False,
) -> dict[str, Any]:
    """Words of a script; the second of them and every third one after it is a number."""
    parts = chosen.sample(words[script.name], min(number, len(words[script.name])))
    parts[1::3] = [_written(chosen.randrange(100, 10000), script.zero) for _ in parts[1::3]]
    target = ", ".join(reversed(parts) if backwards else parts)
    order = " in reverse order, the last one first" if backwards else ""
    text = f"Copy the text{order}.\nText: {', '.join(parts)}"
    return _item(text, target, "reverse" if backwards else "copy", script.name, script.rare)


def _by_a_list(script: Script, latin: Script, chosen: random.Random) -> dict[str, Any]:
    """Two names of four in the other script, either way."""
    places = chosen.sample(range(len(latin.names)), _EXAMPLE_PAIRS)
    asked = chosen.sample(places, 2)
    pairs = ", ".join(f"{latin.names[at]} = {script.names[at]}" for at in places)
    sides = [latin.names, script.names]
    if chosen.random() < 1 / 2:
        sides.reverse()
    given, wanted = (", ".join(side[at] for at in asked) for side in sides)
    text = f"Translate the text by the list.\nList: {pairs}\nText: {given}"
    return _item(text, wanted, "names", script.name, script.rare)


def _digits(script: Script, chosen: random.Random) -> dict[str, Any]:
    """A number in the digits of the other script, either way."""
    number = chosen.randrange(10000, 100000)
    sides = [
        (_DIGITS, str(number)),
        (_written(_DIGITS, script.zero), _written(number, script.zero)),
    ]
    if chosen.random() < 1 / 2:
        sides.reverse()
    (before, given), (after, wanted) = sides
    pairs = " ".join(f"{a}={b}" for a, b in zip(before, after, strict=True))
    text = f"Replace each digit by the list.\nList: {pairs}\nText: {given}"
    return _item(text, wanted, "digits", script.name, script.rare)


def _from_words(chosen: random.Random) -> dict[str, Any]:
    """Two numbers that are written out, in one language."""
    language = chosen.choice(languages())
    numbers = [chosen.choice(range(31, 100)) for _ in range(2)]
    said = ", ".join(in_words(number, language) for number in numbers)
    text = f"Write the numbers in digits.\nText: {said}"
    target = ", ".join(map(str, numbers))
    return _item(text, target, "words", language.script, language.rare)


def _sorted(script: Script, number: int, chosen: random.Random) -> dict[str, Any]:
    """Numbers of another script in 0 to 9, the smallest first."""
    numbers = chosen.sample(range(10000, 100000), number)
    given = ", ".join(_written(n, script.zero) for n in numbers)
    target = ", ".join(map(str, sorted(numbers)))
    text = (
        f"Sort the numbers, the smallest first, and write them in the digits 0 to 9.\nText: {given}"
    )
    return _item(text, target, "sort", script.name, script.rare)


def _written(number: int | str, zero: str | None) -> str:
    """Digits of a script for those of a number."""
    if zero is None:
        return str(number)
    return "".join(chr(ord(zero) + int(digit)) for digit in str(number))


@functools.cache
def _words(path: Path) -> dict[str, tuple[str, ...]]:
    """Words of a Wikipedia dump in other scripts than Latin."""
    found: dict[str, dict[str, None]] = {}
    for article in read_wikipedia(path):
        for word in _WORD.findall(unicodedata.normalize("NFC", article)):
            if not word.isascii() and (script := _script(word)) not in (None, "Latin"):
                found.setdefault(str(script), {})[word] = None
    return {script: tuple(words) for script, words in found.items()}


def _script(word: str) -> str | None:
    """The script of all letters of a word, by Unicode's names of them; ``None`` if mixed."""
    of_letters = {unicodedata.name(letter, "?").split()[0] for letter in word}
    if len(of_letters) > 1:
        return None
    name = of_letters.pop()
    return "Han" if name == "CJK" else name.capitalize()
