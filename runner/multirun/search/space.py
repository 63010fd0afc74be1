"""The search space."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

Point = dict[str, str]
"""A choice of every axis, by the axis' name."""


@dataclass(frozen=True)
class Space:
    """Axes (config groups or fields) and their choices, as they are typed on a command line."""

    axes: dict[str, list[str]]

    def __len__(self) -> int:
        return math.prod(len(choices) for choices in self.axes.values())

    def point(self, index: int) -> Point:
        """The point of a number below the space's size."""
        point = {}
        for name, choices in self.axes.items():
            index, place = divmod(index, len(choices))
            point[name] = choices[place]
        return point

    def identity(self, point: Point) -> tuple[str, ...]:
        """What tells points apart."""
        return tuple(point[name] for name in self.axes)

    def shuffled(self, seed: int) -> Iterator[Point]:
        """All points in an order that the seed determines."""
        order = random.Random(seed)
        # A linear congruence visits every number once without holding them all.
        size = len(self)
        step = next(n for n in iter(lambda: order.randrange(1, size + 1), 0) if _prime(n, size))
        start = order.randrange(size)
        for turn in range(size):
            yield self.point((start + turn * step) % size)


def _prime(step: int, size: int) -> bool:
    return math.gcd(step, size) == 1
