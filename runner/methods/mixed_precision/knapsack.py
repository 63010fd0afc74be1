"""Chooses one option per item, with the least harm within a budget."""

import math
from collections.abc import Sequence

_HALVINGS = 24
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


def choose_within(
    budgets: Sequence[tuple[Sequence[Sequence[tuple[int, float]]], int]],
) -> list[int]:
    """Choose within one budget, or within two.

    Args:
        budgets: For each its options as of ``choose``, with the same harms, and the most.
    """
    if len(budgets) == 1:
        return choose(*budgets[0])
    (options, most), (others, most_of_others) = budgets
    second = [[cost for cost, _ in item] for item in others]
    return choose_within_both(options, most, second, most_of_others)


def choose_within_both(
    options: Sequence[Sequence[tuple[int, float]]],
    budget: int,
    others: Sequence[Sequence[int]],
    most: int,
) -> list[int]:
    """As ``choose``, with a second cost for every option and a budget of its own for it.

    The second budget is a price on its costs (a Lagrange multiplier), halved in on; what is left of
    both is then spent option by option. Never over either budget, and not always the best.

    Args:
        options: For each item its options as (cost, harm).
        budget: Most that the costs may sum to.
        others: The options' second costs.
        most: Most that those may sum to.

    Raises:
        ValueError: Not even the cheapest options fit.
    """

    def spent(chosen: Sequence[int]) -> int:
        return sum(item[index] for item, index in zip(others, chosen, strict=True))

    def priced(price: float) -> list[int]:
        items = [
            [(cost, harm + price * other) for (cost, harm), other in zip(*pair, strict=True)]
            for pair in zip(options, others, strict=True)
        ]
        return choose(items, budget)

    chosen = priced(0.0)
    if spent(chosen) <= most:
        return chosen
    # Options that are equal in one cost may not be in the other: the cheapest of both.
    least = [
        min(zip(other, item, range(len(item)), strict=True))[2]
        for item, other in zip(options, others, strict=True)
    ]
    if spent(least) > most or _cost(options, least) > budget:
        raise ValueError(f"the least costs are {_cost(options, least)} and {spent(least)}")
    low, high = 0.0, 1.0 / max(1, *map(max, others))
    best = least
    while spent(found := priced(high)) > most and high < 1e30:
        low, high = high, 4 * high
    if spent(found) <= most:
        best = found
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if spent(found := priced(middle)) <= most:
            high, best = middle, min(best, found, key=lambda one: _harm(options, one))
        else:
            low = middle
    return _improved(options, budget, others, most, best)


def _improved(
    options: Sequence[Sequence[tuple[int, float]]],
    budget: int,
    others: Sequence[Sequence[int]],
    most: int,
    chosen: list[int],
) -> list[int]:
    """The choice with single options replaced by less harmful ones while any fits."""
    chosen = list(chosen)
    left = budget - _cost(options, chosen)
    left_of_others = most - sum(item[i] for item, i in zip(others, chosen, strict=True))
    while True:
        fitting = [
            (options[place][index][1] - options[place][now][1], place, index)
            for place, now in enumerate(chosen)
            for index in range(len(options[place]))
            if options[place][index][0] - options[place][now][0] <= left
            and others[place][index] - others[place][now] <= left_of_others
        ]
        gain, place, index = min(fitting)
        if gain >= 0:
            return chosen
        left -= options[place][index][0] - options[place][chosen[place]][0]
        left_of_others -= others[place][index] - others[place][chosen[place]]
        chosen[place] = index


def _cost(options: Sequence[Sequence[tuple[int, float]]], chosen: Sequence[int]) -> int:
    return sum(item[index][0] for item, index in zip(options, chosen, strict=True))


def _harm(options: Sequence[Sequence[tuple[int, float]]], chosen: Sequence[int]) -> float:
    return sum(item[index][1] for item, index in zip(options, chosen, strict=True))
