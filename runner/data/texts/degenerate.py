"""Windows that repeat themselves: "bihl bihl …", rows of dots, a thousand equal cells.

Such a window is one sample that counts as hundreds: a calibration Hessian sums the same few
activations over and over, and an evaluation scores what no reader would call text.
"""

from collections.abc import Sequence

RUN_TOKENS = 4
REPEATS = 8
MOST_RUNS = 256
LEFT_OUT = "almost no distinct tokens"
"""How messages name such windows."""


def is_degenerate(window: Sequence[int]) -> bool:
    """Whether a window consists of almost no distinct tokens.

    Counted are its distinct runs of four tokens, not its distinct tokens: a vocabulary of bytes
    has 30 distinct ones in any paragraph, and a list of numbers ten digits. A phrase that is
    repeated has as many distinct runs as it has tokens, however long the window is. Left out is
    what has each run eight times or more on average, and of windows above 2,051 tokens what has
    no more than 256 distinct ones. So the limit follows the length, and fewer than 11 tokens are
    never too few. How it was chosen is in docs/calibration.md.

    Args:
        window: Token ids.
    """
    runs = len(window) - RUN_TOKENS + 1
    distinct = set(zip(*(window[start:] for start in range(RUN_TOKENS)), strict=False))
    return 0 < len(distinct) <= min(runs / REPEATS, MOST_RUNS)
