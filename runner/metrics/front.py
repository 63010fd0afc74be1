"""Which of many things no other beats, where some of their differences are noise."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def unbeaten(
    items: Sequence[T], order: Callable[[T], Any], beats: Callable[[T, T], bool]
) -> list[T]:
    """What no other of those returned beats: the Pareto front, where nothing is noise.

    "Not shown to be worse" is not transitive, so what is itself beaten beats nothing: then whatever
    is left out has one among those returned that beats it, and none of those beats another.

    Args:
        items: What is to be chosen from.
        order: Sorts them so that none is beaten by a later one.
        beats: Whether the first beats the second.
    """
    found: list[T] = []
    for item in sorted(items, key=order):
        if not any(beats(one, item) for one in found):
            found.append(item)
    return found
