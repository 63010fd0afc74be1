"""Chooses one option per item, with the least harm within a budget."""

import math
from collections.abc import Sequence

_MOST_STEPS = 50_000
"""Budgets are counted in steps of the costs' common divisor, or in so many at most."""


def cheapest(options: Sequence[Sequence[tuple[int, float]]]) -> int:
    """Cost of every item's cheapest option together."""
    return sum(min(cost for cost, _ in item) for item in options)


def choose(options: Sequence[Sequence[tuple[int, float]]], budget: int) -> list[int]:
    """Solve the multiple-choice knapsack by dynamic programming over the budget.

    Exact while the budget is at most 50,000 times the costs' common divisor. Beyond, costs are
    rounded up to 1/50,000 of the budget: never over budget, and short of the best by as little.

    Args:
        options: For each item its options as (cost, harm); costs are not negative.
        budget: Most that the costs may sum to.

    Returns:
        The index of the option chosen for each item.

    Raises:
        ValueError: Not even the cheapest options fit.
    """
    import numpy as np

    # What everybody must pay is set aside, so that rounding touches the rest alone.
    least = [min(cost for cost, _ in item) for item in options]
    extra = [
        [(cost - low, harm) for cost, harm in item]
        for low, item in zip(least, options, strict=True)
    ]
    left = budget - sum(least)
    if left < 0:
        raise ValueError(f"the least cost is {sum(least)}, the budget is {budget}")
    left = min(left, sum(max(cost for cost, _ in item) for item in extra))
    step = max(1, math.gcd(*(cost for item in extra for cost, _ in item)))
    step = max(step, -(-left // _MOST_STEPS))
    size = left // step + 1
    harms = np.zeros(size)
    chosen = np.zeros((len(extra), size), np.int16)
    for number, item in enumerate(extra):
        best = np.full(size, np.inf)
        for index, (cost, harm) in enumerate(item):
            steps = -(-cost // step)
            if steps >= size:
                continue
            total = np.full(size, np.inf)
            total[steps:] = harms[: size - steps] + harm
            better = total < best
            best[better] = total[better]
            chosen[number][better] = index
        harms = best
    place, found = size - 1, []
    for number in reversed(range(len(extra))):
        index = int(chosen[number][place])
        found.append(index)
        place -= -(-extra[number][index][0] // step)
    return found[::-1]
