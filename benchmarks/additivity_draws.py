"""Draws assignments of widths that all have the same average."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.methods.mixed_precision.knapsack import choose

if TYPE_CHECKING:
    from runner.methods.mixed_precision.layer_groups import Unit

_SLACK_BITS = 0.01
_SPREADS = (0.5, 1.0, 2.0)
"""Of the noise on harms, as the standard deviation of its logarithm."""


def drawn(
    units: "list[Unit]", widths: Sequence[int], average: float, count: int
) -> list[dict[str, int]]:
    """Random widths, independent of the units: as even a mix as has the average.

    Each unit draws from p(w) ~ exp(-t w), with t such that the mean is the average; then random
    units are drawn again until the whole has the average within 0.01 bits.
    """
    generator = random.Random(0)
    shares = _shares(widths, average)
    total = sum(unit.weights for unit in units)
    found = []
    for _ in range(count):
        choice = {unit.name: generator.choices(widths, shares)[0] for unit in units}
        off = sum(unit.weights * choice[unit.name] for unit in units) / total - average
        while abs(off) > _SLACK_BITS:
            unit = generator.choice(units)
            width = generator.choices(widths, shares)[0]
            after = off + unit.weights * (width - choice[unit.name]) / total
            if abs(after) < abs(off):
                choice[unit.name], off = width, after
        found.append(choice)
    return found


def nearly_chosen(
    units: "list[Unit]",
    harms: dict[tuple[str, int], float],
    widths: Sequence[int],
    average: float,
    count: int,
) -> list[dict[str, int]]:
    """What would be chosen if each unit's harms were larger or smaller by a random factor."""
    generator = random.Random(1)
    budget = int(average * sum(unit.weights for unit in units))
    found = []
    for number in range(count):
        spread = _SPREADS[number % len(_SPREADS)]
        factors = [generator.lognormvariate(0, spread) for _ in units]
        options = [
            [(unit.weights * width, factor * harms[unit.name, width]) for width in widths]
            for unit, factor in zip(units, factors, strict=True)
        ]
        picked = choose(options, budget)
        found.append({u.name: widths[index] for u, index in zip(units, picked, strict=True)})
    return found


def _shares(widths: Sequence[int], average: float) -> list[float]:
    """The distribution of most entropy with this mean, by bisection."""
    import math

    low, high = -20.0, 20.0
    for _ in range(100):
        middle = (low + high) / 2
        weights = [math.exp(-middle * (width - widths[0])) for width in widths]
        mean = sum(w * share for w, share in zip(widths, weights, strict=True)) / sum(weights)
        low, high = (middle, high) if mean > average else (low, middle)
    return [weight / sum(weights) for weight in weights]
