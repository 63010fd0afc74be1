"""Which of many points no other is better than in everything."""

import bisect
from collections.abc import Sequence

_SWEPT = 3
"""Dimensions up to which one pass over sorted points suffices."""


def non_dominated(points: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each point is on the Pareto front, all coordinates being costs.

    A point is dominated by another that is nowhere worse and somewhere better; equal points do
    not dominate each other. Up to three dimensions take n log n comparisons (Kung, Luccio and
    Preparata 1975), more take n times the front's size.

    Args:
        points: Finite or infinite, of one length.
    """
    unique = sorted({tuple(point) for point in points})
    dimensions = len(unique[0]) if unique else 0
    front = set(_sweep(unique, dimensions) if dimensions <= _SWEPT else _scan(unique))
    return [tuple(point) in front for point in points]


def _sweep(points: list[tuple[float, ...]], dimensions: int) -> list[tuple[float, ...]]:
    """Of distinct points in lexical order: one can be dominated only by those before it."""
    front: list[tuple[float, ...]] = []
    # Corners of what is dominated in the second and third coordinate: one grows, one falls.
    second: list[float] = []
    third: list[float] = []
    for point in points:
        _, y, z = (*point, 0.0, 0.0)[:_SWEPT] if dimensions < _SWEPT else point
        after = bisect.bisect_right(second, y)
        if after and third[after - 1] <= z:
            continue
        front.append(point)
        start = bisect.bisect_left(second, y)
        end = start
        while end < len(third) and third[end] >= z:
            end += 1
        second[start:end], third[start:end] = [y], [z]
    return front


def _scan(points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    front: list[tuple[float, ...]] = []
    for point in points:
        if not any(all(a <= b for a, b in zip(one, point, strict=True)) for one in front):
            front.append(point)
    return front
