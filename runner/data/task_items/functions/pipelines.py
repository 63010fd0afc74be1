"""Functions that change a list of numbers several times, told in words or by examples only."""

import random

from runner.data.task_items.functions.sketch import Sketch, numbers

Change = tuple[str, str]
"""In words, and as an expression of ``numbers``."""


def told(changes: int, chosen: random.Random) -> Sketch:
    """Several changes, each in words."""
    drawn = _draw(changes, chosen)
    said = " Then ".join(words for words, _ in drawn)
    return Sketch("change(numbers)", f"Return the numbers after these changes: {said}",
                  _body(drawn), numbers)  # fmt: skip


def shown(changes: int, chosen: random.Random) -> Sketch:
    """Several changes that have to be found from examples."""
    said = "Do what the examples show."
    return Sketch("change(numbers)", said, _body(_draw(changes, chosen)), numbers, examples=4)


def _draw(changes: int, chosen: random.Random) -> list[Change]:
    """Changes of different kinds in turn, none of which leaves an example as it is."""
    drawn: list[Change] = []
    kinds: list[int] = []
    (now,) = numbers(chosen)
    while len(drawn) < changes:
        every = _changes(chosen)
        kind = chosen.randrange(len(every))
        # Our own expression.
        after = eval(every[kind][1], {"numbers": now})
        if kind not in kinds[-2:] and after != now and len(after) > 1:
            kinds.append(kind)
            drawn.append(every[kind])
            now = after
    return drawn


def _changes(chosen: random.Random) -> tuple[Change, ...]:
    k, by = chosen.randint(2, 20), chosen.randint(2, 5)
    return (
        (f"add {k} to each.", f"[n + {k} for n in numbers]"),
        (f"multiply each by {by}.", f"[n * {by} for n in numbers]"),
        (f"leave out the multiples of {by}.", f"[n for n in numbers if n % {by}]"),
        (f"leave out those smaller than {k}.", f"[n for n in numbers if n >= {k}]"),
        (f"replace each by its remainder modulo {k + 3}.", f"[n % {k + 3} for n in numbers]"),
        ("sort from the smallest to the largest.", "sorted(numbers)"),
        ("reverse their order.", "numbers[::-1]"),
        ("add to each its place, from 0.", "[n + i for i, n in enumerate(numbers)]"),
        ("move the first to the end.", "numbers[1:] + numbers[:1]"),
        (f"put their count plus {k} at the end.", f"numbers + [len(numbers) + {k}]"),
        (f"put the sum of all plus {k} at the start.", f"[sum(numbers) + {k}] + numbers"),
    )


def _body(changes: list[Change]) -> str:
    lines = [f"numbers = {expression}" for _, expression in changes[:-1]]
    return "\n".join([*lines, f"return {changes[-1][1]}"])
