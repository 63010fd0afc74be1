"""Word problems of several steps, with the working that solves them; generated."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.task_items.levels import distinct

_PEOPLE = (
    "Ada", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Ines", "Jonas", "Kira",
    "Leo", "Maria", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tara", "Viktor",
)  # fmt: skip
_THINGS = (
    "apples", "balls", "books", "buttons", "cards", "coins", "eggs", "keys", "marbles", "nuts",
    "pencils", "shells", "stamps", "stickers", "stones", "tickets",
)  # fmt: skip

_START = "{a} has {k} {things}."
_ADDED = ("{a} finds {k} more.", "{a} buys {k} more.", "{b} gives {a} {k} more.")
_COMPARED = "{b} has {k} more {things} than {a}."
_TAKEN = ("{a} loses {k}.", "{a} sells {k}.", "{a} gives {k} to {b}.")
_FEWER = "{b} has {k} fewer {things} than {a}."
_TIMES = "{b} has {k} times as many {things} as {a}."
_SHARED = "{a} shares them equally among {k} friends, one of whom is {b}."
_ASIDES = (
    "{c} has {k} {others}.",
    "{c} is {k} years old.",
    "{c} lives {k} kilometres away.",
)


@dataclass(frozen=True)
class _Shape:
    """How hard the problems of a level are."""

    steps: int
    start: tuple[int, int]
    """Numbers that a story begins with."""
    by: tuple[int, int]
    """Numbers that are added or taken away."""
    only_sums: bool = False
    factors: int = 0
    """The largest factor or divisor; 0 where there are only sums and differences."""
    asides: int = 0
    """Sentences with numbers that do not matter."""


_SHAPES = (
    _Shape(1, (2, 9), (2, 9), only_sums=True),
    _Shape(1, (10, 29), (2, 9), only_sums=True),
    _Shape(1, (10, 49), (2, 19), only_sums=True),
    _Shape(1, (10, 99), (10, 99), only_sums=True),
    _Shape(2, (10, 50), (1, 20)),
    _Shape(3, (10, 99), (2, 99), factors=5),
    _Shape(5, (100, 999), (10, 999), factors=12, asides=1),
    _Shape(6, (1000, 9999), (100, 9999), factors=99, asides=2),
    _Shape(6, (100_000, 999_999), (10_000, 999_999), factors=999, asides=4),
)
"""By level, from 1; beyond the last one, a problem gets one step longer with each level."""


def arithmetic(
    _: list[Path], level: int, count: int, chosen: random.Random
) -> list[dict[str, Any]]:
    """Word problems of a level.

    Args:
        level: From 1 (one sum of single digits) to 9 (six steps with products of six by three
            digits, and numbers that do not matter); each further one adds a step.
        count: How many.
        chosen: Draws them.
    """
    shape = _SHAPES[min(level, len(_SHAPES)) - 1]
    steps = shape.steps + max(0, level - len(_SHAPES))
    return distinct(lambda: _problem(level, steps, shape, chosen), count)


def _problem(level: int, steps: int, shape: _Shape, chosen: random.Random) -> dict[str, Any]:
    """A story about one number, which each step changes."""
    people, things = chosen.sample(_PEOPLE, len(_PEOPLE)), chosen.choice(_THINGS)
    who, outsiders = people.pop(), [people.pop() for _ in range(shape.asides)]
    value = chosen.randint(*shape.start)
    said = [_START.format(a=who, k=value, things=things)]
    working = []
    for _ in range(steps):
        # Nobody whose things were counted comes back: the story would contradict itself.
        other = people[-1]
        moves = len(people) > 1
        sentence, sign, by, moves = _step(value, shape, chosen, may_move=moves)
        said.append(sentence.format(a=who, b=other, k=by, things=things))
        after = _result(value, sign, by)
        working.append(f"{value} {sign} {by} = {after}.")
        value = after
        if moves:
            who = people.pop()
    for outsider in outsiders:
        aside = chosen.choice(_ASIDES).format(
            c=outsider,
            k=chosen.randint(2, 99),
            others=chosen.choice([other for other in _THINGS if other != things]),
        )
        said.insert(chosen.randint(1, len(said)), aside)
    return {
        "text": f"Question: {' '.join(said)} How many {things} does {who} have now?\nWorking:",
        "target": f"{' '.join(working)} Answer: {value} {things}",
        "level": level,
        "answer": value,
        "other_things": " ".join(other for other in _THINGS if other != things),
    }


def _result(value: int, sign: str, by: int) -> int:
    return {"+": value + by, "-": value - by, "*": value * by, "/": value // by}[sign]


def _step(
    value: int, shape: _Shape, chosen: random.Random, *, may_move: bool
) -> tuple[str, str, int, bool]:
    """Sentence, sign and number of a step, and whether the story goes on with the other person."""
    least, most = shape.by
    signs = ["+"]
    if not shape.only_sums and value > least:
        signs.append("-")
    if shape.factors and may_move:
        divisors = [by for by in range(2, min(value, shape.factors) + 1) if value % by == 0]
        # Products make numbers longer, and quotients shorter again.
        signs += ["/", "/"] if divisors and value > shape.start[1] else ["*"]
    sign = chosen.choice(signs)
    if sign == "*":
        return _TIMES, sign, chosen.randint(2, shape.factors), True
    if sign == "/":
        return _SHARED, sign, chosen.choice(divisors), True
    compared, sentences = (_COMPARED, _ADDED) if sign == "+" else (_FEWER, _TAKEN)
    by = chosen.randint(least, most if sign == "+" else min(most, value - 1))
    # Comparisons need several people to be told apart, so the easiest problems have none.
    moves = may_move and shape.factors > 0 and chosen.random() < 0.3
    return compared if moves else chosen.choice(sentences), sign, by, moves
