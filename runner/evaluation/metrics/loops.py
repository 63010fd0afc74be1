"""Repetition loops: generated text whose end says the same over and over."""

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_REPEATS = 3
"""Times that the end of an answer must say the same to be a loop."""
LEAST_TOKENS = 16
"""Tokens that those must fill together: a short row of equal numbers is none."""


@dataclass(frozen=True)
class Loop:
    """The longest end of a text that goes on repeating itself."""

    period: int
    """Tokens that are repeated."""
    tokens: int
    """Tokens of the text's end that repeat with this period; the last repetition may be cut."""


def find_loop(
    tokens: Sequence[int], repeats: int = LEAST_REPEATS, least: int = LEAST_TOKENS
) -> Loop | None:
    """The loop that a text ends in; ``None`` where it ends in none.

    An end of n tokens has period p if each of its tokens equals the one p before it. It is a loop
    if n is at least ``repeats`` times p, and at least ``least``. A count (``1. The 2. The 3. The``)
    has no period, and a loop that the text got out of is none.

    The smallest period of each end is its length less its longest border, which the prefix function
    of the reversed text gives for all ends in linear time (Knuth, Morris and Pratt, SIAM Journal on
    Computing 6, 1977).
    """
    reversed_ = tokens[::-1]
    borders = [0] * len(reversed_)
    found = None
    for place in range(len(reversed_)):
        border = borders[place - 1] if place else 0
        while place and border and reversed_[place] != reversed_[border]:
            border = borders[border - 1]
        if place and reversed_[place] == reversed_[border]:
            border += 1
        borders[place] = border
        length, period = place + 1, place + 1 - border
        if length >= max(least, repeats * period):
            found = Loop(period, length)
    return found
