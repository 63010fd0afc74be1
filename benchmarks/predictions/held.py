"""Predictions beside measurements, in regimes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.predictions.answers import case_of, predicted
from benchmarks.predictions.fitting import Names, Stack, left_out
from benchmarks.predictions.points import KV_TOKENS, MANY, Point
from runner.planning.option import Range

_SMALL, _LARGE = 1e9, 6e9
LEAST_OF_A_GROUP = 20


@dataclass(frozen=True)
class Held:
    """A point and what is predicted for it."""

    point: Point
    range: Range
    without: float | None
    """Expected, by constants fitted without the point's group; ``None``: they are not fitted."""

    @property
    def error(self) -> float:
        """Relative, of the expected value."""
        return abs(self.range.expected / self.point.value - 1)

    @property
    def error_without(self) -> float | None:
        """The same by constants that were fitted without its group."""
        return None if self.without is None else abs(self.without / self.point.value - 1)

    @property
    def is_within(self) -> bool:
        """Whether it was measured between low and high."""
        return self.range.low <= self.point.value <= self.range.high

    @property
    def half_width(self) -> float:
        """Of the range, as a part of the expected value."""
        return (self.range.high - self.range.low) / 2 / self.range.expected


def hold(points: Sequence[Point], others: Sequence[Point] = ()) -> list[Held]:
    """Predict points.

    Args:
        points: Which.
        others: What constants are fitted to besides, where groups are left out.
    """
    without: dict[int, float] = {}
    timed = [point for point in points if point.metric != KV_TOKENS]
    beside = [point for point in others if point.metric != KV_TOKENS]
    for family in {point.family.name: point.family for point in timed}.values():
        mine = [point for point in (*timed, *beside) if point.family.name == family.name]
        stack = Stack([case_of(point) for point in mine])
        names = Names(stack.generations)
        found = left_out(stack, names, names.values(family))
        without |= {id(point): float(value) for point, value in zip(mine, found, strict=True)}
    return [Held(point, predicted(case_of(point)), without.get(id(point))) for point in points]


def _is_one(point: Point) -> bool:
    return point.metric == "tpot_ms" and point.concurrency <= 1


def _is_llama_cpp(point: Point) -> bool:
    return point.family.kernels[0] == "llama_cpp"


def _serves(point: Point) -> bool:
    return point.metric == "tpot_ms" and not _is_llama_cpp(point)


REGIMES: dict[str, Callable[[Point], bool]] = {
    "serving, dense": lambda p: _serves(p) and not p.shape.experts,
    "serving, experts": lambda p: _serves(p) and bool(p.shape.experts),
    "serving, up to 8 at once": lambda p: _serves(p) and p.concurrency <= 8,
    "serving, more at once": lambda p: _serves(p) and p.concurrency > 8,
    "decode at batch 1, 7B and larger": lambda p: _is_one(p) and p.shape.parameters > _LARGE,
    "decode at batch 1, 0.5B": lambda p: _is_one(p) and p.shape.parameters < _SMALL,
    "prefill, first token": lambda p: (
        p.metric == "ttft_ms" and p.concurrency <= 1 and not _is_llama_cpp(p)
    ),
    "first token under load": lambda p: p.metric == "ttft_ms" and p.concurrency > 1,
    "sustained throughput": lambda p: p.metric == "output_tok_s",
    "offline throughput": lambda p: p.metric == "max_output_tok_s",
    "fixed batch": lambda p: p.metric == "e2e_s",
    "llama.cpp decode": lambda p: p.metric == "tpot_ms" and _is_llama_cpp(p),
    "llama.cpp prefill": lambda p: p.metric == "ttft_ms" and _is_llama_cpp(p),
    "KV tokens": lambda p: p.metric == KV_TOKENS,
}
"""The rows of the table; a point may count in several."""


def median(values: Sequence[float]) -> float:
    """Of some numbers."""
    return float(np.median(values))


def ninth(values: Sequence[float]) -> float:
    """Ninetieth percentile."""
    return float(np.quantile(values, 0.9))


def groups_of(held: Sequence[Held]) -> dict[tuple[str, str, str], list[Held]]:
    """By model, device and engine."""
    found: dict[tuple[str, str, str], list[Held]] = {}
    for one in held:
        if one.point.metric == "tpot_ms" and one.point.concurrency != MANY:
            found.setdefault(one.point.group, []).append(one)
    return found
