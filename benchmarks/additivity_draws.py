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
    found = []
    for number in range(count):
        spread = _SPREADS[number % len(_SPREADS)]
        factors = [generator.lognormvariate(0, spread) for _ in units]
        scaled = {
            (unit.name, width): factor * harms[unit.name, width]
            for unit, factor in zip(units, factors, strict=True)
            for width in widths
        }
        found.append(solve(units, scaled, widths, average))
    return found


def solve(
    units: "list[Unit]",
    harms: dict[tuple[str, int], float],
    widths: Sequence[int],
    average: float,
) -> dict[str, int]:
    """The widths of least harm within an average; no unit gets one without a harm."""
    options = [[width for width in widths if (unit.name, width) in harms] for unit in units]
    picked = choose(
        [
            [(unit.weights * width, harms[unit.name, width]) for width in one]
            for unit, one in zip(units, options, strict=True)
        ],
        int(average * sum(unit.weights for unit in units)),
    )
    return {unit.name: one[index] for unit, one, index in zip(units, options, picked, strict=True)}


def width_factors(
    harms: dict[tuple[str, int], float],
    widths: Sequence[int],
    choices: list[dict[str, int]],
    wholes: list[float],
) -> dict[int, float]:
    """By which the harms of each width are best multiplied to predict wholes, in relative error.

    The widest width, of next to no harm, keeps the factor 1.
    """
    import numpy as np

    sums = np.array(
        [
            [sum(harms[pair] for pair in choice.items() if pair[1] == width) for width in widths]
            for choice in choices
        ]
    )
    relative = sums / np.array(wholes)[:, None]
    factors = np.linalg.lstsq(relative[:, :-1], np.ones(len(wholes)), rcond=None)[0]
    return {**{w: float(f) for w, f in zip(widths[:-1], factors, strict=True)}, widths[-1]: 1.0}


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
