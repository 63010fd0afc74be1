"""Small functions to be written from a docstring and examples; generated."""

import functools
import json
import random
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.data.task_items.functions.algorithms import algorithm, loop
from runner.data.task_items.functions.expressions import (
    arithmetic,
    built_in,
    condition,
    formula,
    total,
)
from runner.data.task_items.functions.pipelines import shown, told
from runner.data.task_items.functions.sketch import Sketch
from runner.data.task_items.levels import distinct

_LEVELS: tuple[Callable[[random.Random], Sketch], ...] = (
    arithmetic,
    total,
    functools.partial(formula, 1),
    functools.partial(formula, 2),
    built_in,
    condition,
    loop,
    functools.partial(told, 3),
    algorithm,
    functools.partial(shown, 3),
)
_TESTS = 8
"""Calls that the docstring does not show."""


def functions(_: list[Path], level: int, count: int, chosen: random.Random) -> list[dict[str, Any]]:
    """Functions of a level.

    Args:
        level: From 1 (one operation on a number) over formulas, conditions, loops and algorithms
            to 10 (three operations that only examples tell; one more with each further level).
        count: How many.
        chosen: Draws them.
    """
    draw = _LEVELS[level - 1] if level <= len(_LEVELS) else functools.partial(shown, level - 7)
    # Each answer once: the body of one item is wrong for any other.
    return distinct(lambda: _item(level, draw(chosen), chosen), count, key="target")


def _item(level: int, sketch: Sketch, chosen: random.Random) -> dict[str, Any]:
    name = sketch.head.partition("(")[0]
    target = textwrap.indent(sketch.body, "    ")
    space: dict[str, Any] = {}
    # Our own text: the body drawn above.
    exec(f"def {sketch.head}:\n{target}", space)
    calls: dict[str, str] = {}
    while len(calls) < sketch.examples + _TESTS:
        arguments = sketch.draw(chosen)
        call = ", ".join(map(repr, arguments))
        calls.setdefault(call, repr(space[name](*arguments)))
    pairs = list(calls.items())
    examples = [f">>> {name}({call})\n{result}" for call, result in pairs[: sketch.examples]]
    said = textwrap.indent("\n".join([sketch.does, *examples]), "    ").strip()
    tests = pairs[sketch.examples :]
    return {
        "text": f'def {sketch.head}:\n    """{said}\n    """',
        "target": target,
        "level": level,
        "function": name,
        "calls": json.dumps([call for call, _ in tests]),
        "results": json.dumps([result for _, result in tests]),
    }
