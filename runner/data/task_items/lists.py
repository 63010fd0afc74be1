"""Lists to be changed by one operation after the other; generated."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.task_items.levels import distinct

_WORDS = (
    "apple", "arrow", "bell", "bird", "boat", "bread", "cake", "chair", "cloud", "corn", "door",
    "drum", "fish", "flag", "fork", "frog", "gate", "glass", "goat", "grass", "hat", "horse",
    "island", "jar", "key", "king", "lake", "lamp", "leaf", "lemon", "moon", "mouse", "nail",
    "nest", "ocean", "onion", "pear", "pen", "plate", "queen", "rain", "ring", "river", "rope",
    "salt", "ship", "snow", "spoon", "star", "stone", "table", "tiger", "train", "tree", "wall",
    "watch", "wheel", "wolf", "wood", "yard",
)  # fmt: skip

Change = Callable[[list[str], random.Random], tuple[str, list[str]]]
"""Of a list: what to do with it in words, and what it becomes."""


def _again(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return "Write the list again.", now


def _first(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return "Write the first item only.", now[:1]


def _last(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return "Write the last item only.", now[-1:]


def _item_at(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    place = chosen.randint(2, len(now))
    return f"Write item number {place} only.", [now[place - 1]]


def _item_after(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    place = chosen.randrange(len(now) - 1)
    return f"Write the item after {now[place]} only.", [now[place + 1]]


def _append(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    new = _new(now, chosen)
    return f"Add {new} at the end.", [*now, new]


def _prepend(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    new = _new(now, chosen)
    return f"Add {new} at the start.", [new, *now]


def _without(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    out = chosen.choice(now)
    return f"Remove every {out}.", [item for item in now if item != out]


def _replaced(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    old, new = chosen.choice(now), _new(now, chosen)
    return f"Replace every {old} by {new}.", [new if item == old else item for item in now]


def _drop_first(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    count = chosen.randint(1, min(3, len(now)))
    return f"Remove the first {_counted(count)}.", now[count:]


def _keep_last(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    count = chosen.randint(2, max(2, len(now) - 1))
    return f"Keep the last {_counted(count)} only.", now[-count:]


def _reverse(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return "Reverse the order.", now[::-1]


def _rotate(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return "Move the first item to the end.", [*now[1:], *now[:1]]


def _swap(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return "Swap the first and the last item.", [now[-1], *now[1:-1], now[0]]


def _sort(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    if _are_numbers(now):
        return "Sort from the smallest to the largest.", sorted(now, key=int)
    return "Sort alphabetically.", sorted(now)


def _distinct(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return "Remove repeated items, so that only the first of each is left.", list(
        dict.fromkeys(now)
    )


def _filter(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    if _are_numbers(now):
        limit = chosen.choice(now)
        kept = [item for item in now if int(item) > int(limit)]
        return f"Keep only what is larger than {limit}.", kept
    letter = chosen.choice(chosen.choice(now))
    return f"Keep only items with the letter {letter}.", [item for item in now if letter in item]


def _every_second(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return "Keep only the items at odd places (first, third and so on).", now[::2]


def _difference(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    others = _others(now, chosen)
    said = f"Remove everything that is also in this list: {', '.join(others)}."
    return said, [item for item in now if item not in others]


def _intersection(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    others = _others(now, chosen)
    said = f"Keep only what is also in this list: {', '.join(others)}."
    return said, [item for item in now if item in others]


def _union(now: list[str], chosen: random.Random) -> tuple[str, list[str]]:
    others = _others(now, chosen)
    said = f"Add at the end what it lacks of this list: {', '.join(others)}."
    return said, [*now, *(item for item in others if item not in now)]


def _counts(now: list[str], _: random.Random) -> tuple[str, list[str]]:
    return (
        "Write each item once, with how often it is in the list behind it, as in pear:2.",
        [f"{item.partition(':')[0]}:{now.count(item)}" for item in dict.fromkeys(now)],
    )


def _are_numbers(now: list[str]) -> bool:
    return all(item.isdecimal() for item in now)


def _counted(count: int) -> str:
    return "item" if count == 1 else f"{count} items"


def _new(now: list[str], chosen: random.Random) -> str:
    """An item of the same kind that is not in the list."""
    return next(item for item in _drawn(len(now) + 1, False, _are_numbers(now), chosen)
                if item not in now)  # fmt: skip


def _others(now: list[str], chosen: random.Random) -> list[str]:
    """Some items of the list and some others, in any order."""
    different = list(dict.fromkeys(now))
    half = max(1, len(different) // 2)
    others = [*chosen.sample(different, half), *(_new(now, chosen) for _ in range(half))]
    chosen.shuffle(others)
    return list(dict.fromkeys(others))


def _drawn(length: int, repeated: bool, numbers: bool, chosen: random.Random) -> list[str]:
    """Words or numbers; with some of them several times if ``repeated``."""
    pool = [str(number) for number in range(1, 100)] if numbers else list(_WORDS)
    different = chosen.sample(pool, max(2, length * 2 // 3) if repeated else length)
    drawn = [*different, *chosen.choices(different, k=length - len(different))]
    chosen.shuffle(drawn)
    return drawn


_COPIES: tuple[Change, ...] = (_again, _first, _last)
_ENDS: tuple[Change, ...] = (_append, _prepend, _drop_first)
_PLACES: tuple[Change, ...] = (_without, _replaced, _swap, _rotate, _keep_last, _reverse)
_RULES: tuple[Change, ...] = (_sort, _filter, _every_second, _difference, _intersection, _union)


@dataclass(frozen=True)
class _Shape:
    """How hard the lists of a level are."""

    operations: int
    length: tuple[int, int]
    changes: tuple[Change, ...]
    numbers: bool = False
    """Whether half of the lists have numbers instead of words."""
    repeated: bool = False
    """Whether items come several times."""
    least: int = 1
    """Items that are left after each operation: fewer would leave too little to do."""


_SHAPES = (
    _Shape(1, (2, 3), _COPIES),
    _Shape(1, (3, 5), _COPIES),
    _Shape(1, (6, 8), _COPIES),
    _Shape(1, (3, 5), (*_ENDS, _item_after)),
    _Shape(1, (4, 6), (*_ENDS, *_PLACES, _item_at)),
    _Shape(1, (5, 7), (*_PLACES, *_RULES), numbers=True),
    _Shape(1, (7, 10), (*_RULES, _distinct, _counts), numbers=True, repeated=True, least=2),
    _Shape(3, (8, 10), (*_PLACES, *_RULES), numbers=True, least=2),
    _Shape(6, (12, 14), (*_PLACES, *_RULES, _distinct), numbers=True, repeated=True, least=4),
    _Shape(10, (16, 20), (*_PLACES, *_RULES, _distinct), numbers=True, repeated=True, least=4),
)
"""By level, from 1; beyond the last one, there is one operation more with each level."""


def lists(_: list[Path], level: int, count: int, chosen: random.Random) -> list[dict[str, Any]]:
    """Lists of a level.

    Args:
        level: From 1 (a short list to write again, or its first or last item) to 10 (ten
            operations, one after the other in the head); each further one adds one.
        count: How many.
        chosen: Draws them.
    """
    shape = _SHAPES[min(level, len(_SHAPES)) - 1]
    operations = shape.operations + max(0, level - len(_SHAPES))
    # In turn, so that the examples in a prompt are not all of one kind: small models would only
    # do what those do.
    first = itertools.cycle(shape.changes)
    return distinct(lambda: _item(level, operations, next(first), shape, chosen), count)


def _item(
    level: int, operations: int, first: Change, shape: _Shape, chosen: random.Random
) -> dict[str, Any]:
    while True:
        length = chosen.randint(*shape.length)
        given = _drawn(length, shape.repeated, shape.numbers and chosen.random() < 0.5, chosen)
        now = given
        said: list[str] = []
        last: Change | None = None
        for _ in range(operations):
            others = [other for other in shape.changes if other is not last]
            change = first if last is None else chosen.choice(others)
            sentence, after = change(now, chosen)
            # One that does nothing is none, except for writing a list again.
            if len(after) < shape.least or (after == now and change is not _again):
                break
            said.append(sentence if not said else sentence[0].lower() + sentence[1:])
            now, last = after, change
        if len(said) == operations:
            break
    return {
        "text": f"List: {', '.join(given)}\nTask: {' Then '.join(said)}\nResult:",
        "target": ", ".join(now),
        "level": level,
    }
