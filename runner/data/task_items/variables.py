"""Values to be followed through a long text: variable tracking, as in RULER (arXiv 2404.06654)."""

import random
import string
from pathlib import Path
from typing import Any

from runner.data.task_items.filler import hide, sentences, tokens_at_most

_LETTERS = 3
_TOKENS_WITHOUT_HOPS = 64
_KINDS_OF_A_LEVEL = 3


def most_hops(level: int) -> int:
    """Hops of a level's hardest items: one more for every doubling of its tokens, 0 for 64."""
    return max(0, (level // _TOKENS_WITHOUT_HOPS).bit_length() - 1)


def variables(
    files: list[Path], level: int, count: int, chosen: random.Random
) -> list[dict[str, Any]]:
    """Items whose prompt and answer have at most ``level`` tokens.

    A chain gives a variable a number, and each further variable (a hop) the value of the one
    before. The number of a chain's last variable is asked for. The level's hops, and up to two
    fewer, take turns. Other chains of the same length stand in the same text, one more for
    every doubling, so that who takes any number of the text is right as often as one in their
    number.
    """
    (path,) = files
    among = sentences(path)
    most = most_hops(level)
    hops = range(max(0, most - _KINDS_OF_A_LEVEL + 1), most + 1)
    return [_item(hops[n % len(hops)], most + 2, among, level, chosen) for n in range(count)]


def _item(
    hops: int, chains: int, among: tuple[tuple[str, int], ...], level: int, chosen: random.Random
) -> dict[str, Any]:
    length = hops + 1
    names = _names(chains * length, chosen)
    numbers = chosen.sample(range(10000, 100000), chains)
    # Each chain in its own order, but the chains mixed.
    turns = [chain for chain in range(chains) for _ in range(length)]
    chosen.shuffle(turns)
    told = []
    done = [0] * chains
    for chain in turns:
        at = chain * length + done[chain]
        value = str(numbers[chain]) if done[chain] == 0 else f"the value of {names[at - 1]}"
        told.append(f"The value of {names[at]} is {value}.")
        done[chain] += 1
    asked = names[hops]
    question = (
        f"Question: Which number is the value of {asked} in the text above?\n"
        f"Answer: The value of {asked} is"
    )
    target = f"{numbers[0]}."
    text, _ = hide(told, among, level - tokens_at_most(question + target), chosen)
    return {
        "text": f"{text}\n\n{question}",
        "target": target,
        "level": level,
        "hops": hops,
        "chains": chains,
    }


def _names(count: int, chosen: random.Random) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(chosen.choices(string.ascii_uppercase, k=_LETTERS))] = None
    return list(names)
