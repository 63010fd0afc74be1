"""The Pareto front, where differences may be noise."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeVar

T = TypeVar("T")


def unbeaten(
    items: Sequence[T], order: Callable[[T], Any], beats: Callable[[T, T], bool]
) -> list[T]:
    """What no other of those returned beats: the Pareto front, where nothing is noise.

    "Not shown to be worse" is not transitive, so what is itself beaten beats nothing: then whatever
    is left out has one among those returned that beats it (in a ring: or is beaten by it), and none
    of those returned beats another.

    Args:
        items: What is to be chosen from.
        order: Sorts them so that none is beaten by one with a larger key. Of equal keys either may
            beat the other; should noise make a ring of them, the first of it is taken, and what
            beats that one is left out.
        beats: Whether the first beats the second.
    """
    front: list[T] = []
    for _, equal in groupby(sorted(items, key=order), key=order):
        left = [item for item in equal if not any(beats(one, item) for one in front)]
        while left:
            free = [
                item
                for item in left
                if not any(beats(one, item) for one in left if one is not item)
            ]
            if not free:  # a ring
                free = left[:1]
                left = [item for item in left if not beats(item, free[0])]
            front += free
            left = [
                item for item in left if not any(item is one or beats(one, item) for one in free)
            ]
    return front
