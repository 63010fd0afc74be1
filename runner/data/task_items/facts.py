"""Facts from the word analogies of Mikolov et al. (arXiv 1301.3781), ``questions-words.txt``."""

import random
from pathlib import Path
from typing import Any

from runner.data.task_items.choose import multiple_choice

_STATEMENTS = {
    "capital-world": "The capital of {1} is",
    "city-in-state": "{0} is a city in the American state of",
    "gram6-nationality-adjective": "The nationality of someone from {0} is",
}
_ANSWERS = {"capital-world": 0, "city-in-state": 1, "gram6-nationality-adjective": 1}


def facts(files: list[Path], choices: int, chosen: random.Random) -> list[dict[str, Any]]:
    """One item a pair; wrong answers are those to other statements of the same kind.

    A line of the file is a question such as ``Athens Greece Baghdad Iraq``: two pairs.
    """
    (path,) = files
    pairs: dict[str, set[tuple[str, str]]] = {}
    section = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        a, b, c, d = line.split()
        pairs.setdefault(section, set()).update(((a, b), (c, d)))
    items = []
    for kind, statement in _STATEMENTS.items():
        answers = sorted({pair[_ANSWERS[kind]] for pair in pairs[kind]})
        for pair in sorted(pairs[kind]):
            item = multiple_choice(
                statement.format(*pair), pair[_ANSWERS[kind]], answers, choices, chosen
            )
            if item is not None:
                items.append(item)
    return items
