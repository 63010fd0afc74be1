"""Sums to choose among near misses."""

import random
from pathlib import Path
from typing import Any

from runner.data.task_items.choose import multiple_choice

_MISSES = (-11, -10, -9, -2, -1, 1, 2, 9, 10, 11)
"""A digit wrong, a carry forgotten or made up."""


def additions(_: list[Path], choices: int, chosen: random.Random) -> list[dict[str, Any]]:
    """Every unordered pair of numbers from 11 to 99, as ``23 + 45 =``, its order drawn."""
    items = []
    for low in range(11, 100):
        for high in range(low, 100):
            pair = [low, high]
            chosen.shuffle(pair)
            wrong = [str(low + high + miss) for miss in _MISSES]
            item = multiple_choice(
                f"{pair[0]} + {pair[1]} =", str(low + high), wrong, choices, chosen
            )
            if item is not None:
                items.append(item)
    return items
