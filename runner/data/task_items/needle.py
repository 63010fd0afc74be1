"""Codes to be found in a long text: the retrieval kinds of RULER (arXiv 2404.06654)."""

import random
from pathlib import Path
from typing import Any

from runner.data.task_items.filler import hide, sentences, tokens_at_most

_KINDS = ("one", "keys", "values")
_ADJECTIVES = (
    "amber azure black blue bronze brown copper coral crimson dark early gentle golden grand "
    "green grey heavy hidden hollow humble icy ivory jolly late light little lonely lucky mellow "
    "misty noble old orange pale pink plain proud purple quick quiet rapid red rough royal "
    "rusty sandy scarlet sharp shiny silent silver simple sleepy slow small smooth snowy soft "
    "solid stormy sunny tall tiny violet warm white wild windy yellow young"
)
_NOUNS = (
    "anchor apple arrow badger basket bear bell boat book bottle bridge camel candle castle "
    "clock cloud corn crow deer dragon eagle engine falcon feather field fish flower forest fox "
    "garden goat hammer harbor hat horse island kettle lake lamp lemon lion mirror monkey moon "
    "mountain needle ocean owl panda pencil pepper piano pilot pond rabbit river rocket rose "
    "sailor shell ship spider star stone tiger tower train tree turtle valley whale window wolf"
)
_TOKENS_OF_A_DISTRACTOR = 64
"""One other key for so many tokens of the whole: RULER's multi-key kind, denser with length."""
_MOST_VALUES = 4


def needle(
    files: list[Path], level: int, count: int, chosen: random.Random
) -> list[dict[str, Any]]:
    """Items whose prompt and answer have at most ``level`` tokens, of three kinds in turn.

    One key with one code; one key among others that share a word with it or another key; one
    key with several codes, all asked for. Keys are two words, codes five digits, and both are
    told in sentences at places that are drawn.
    """
    (path,) = files
    among = sentences(path)
    return [_item(_KINDS[n % len(_KINDS)], among, level, chosen) for n in range(count)]


def _item(
    kind: str, among: tuple[tuple[str, int], ...], level: int, chosen: random.Random
) -> dict[str, Any]:
    key = _key(chosen)
    values, others = 1, []
    if kind == "keys":
        others = _others(key, max(2, level // _TOKENS_OF_A_DISTRACTOR), chosen)
    elif kind == "values":
        values = min(_MOST_VALUES, max(2, level // 256 + 1))
    codes = chosen.sample(range(10000, 100000), values + len(others))
    told = [f"The code of the {key} is {code}." for code in codes[:values]]
    told += [
        f"The code of the {k} is {code}." for k, code in zip(others, codes[values:], strict=True)
    ]
    order = list(range(len(told)))
    chosen.shuffle(order)
    question = (
        f"Question: What is the code of the {key} in the text above?\n"
        f"Answer: The code of the {key} is"
        if values == 1
        else f"Question: What are the {values} codes of the {key} in the text above?\n"
        f"Answer: The {values} codes of the {key} are"
    )
    target = ", ".join(str(codes[n]) for n in order if n < values) + "."
    room = level - tokens_at_most(question + target)
    text, depths = hide([told[n] for n in order], among, room, chosen)
    return {
        "text": f"{text}\n\n{question}",
        "target": target,
        "level": level,
        "kind": kind,
        "depth_percent": min(d for d, n in zip(depths, order, strict=True) if n < values),
    }


def _key(chosen: random.Random) -> str:
    return f"{chosen.choice(_ADJECTIVES.split())} {chosen.choice(_NOUNS.split())}"


def _others(key: str, count: int, chosen: random.Random) -> list[str]:
    """Other keys; every second shares one of its words with the key."""
    first, second = key.split()
    before = [word for word in _ADJECTIVES.split() if word != first]
    after = [word for word in _NOUNS.split() if word != second]
    near = [f"{first} {word}" for word in after] + [f"{word} {second}" for word in before]
    far = [f"{a} {b}" for a in before for b in after]
    count = min(count, len(far))
    close = chosen.sample(near, min(len(near), -(-count // 2)))
    return close + chosen.sample(far, count - len(close))
