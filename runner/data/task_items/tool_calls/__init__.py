"""Requests to call one of several tools, whose answer is one JSON object."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.task_items.tool_calls.requests import Wording, ask
from runner.data.task_items.tool_calls.tools import ACTIONS, OBJECTS, Tool, draw_parameters
from runner.data.task_items.tool_calls.values import Kind


@dataclass(frozen=True)
class _Level:
    """What makes a level hard."""

    tools: int
    arguments: int
    """That the request gives values of."""
    optional: int = 0
    """Further parameters, which the request does not mention and the call is to leave out."""
    kinds: frozenset[Kind] = frozenset(Kind)
    near: bool = True
    """Whether the other tools have the right one's parameters, and its object or its action; else
    neither is the same."""
    wording: Wording = Wording.other
    """How the request names the tool and its arguments."""
    schemas: bool = False
    """Whether half of the items show tools as JSON schemas, not as signatures."""
    written: int = 0
    """How values are said: 0 as the call needs them, 1 in words, 2 to be worked out."""


_TEXTS = frozenset({Kind.label, Kind.person, Kind.city})
_PLAIN = _TEXTS | {Kind.count, Kind.date, Kind.time}
_LEVELS = (
    # In turn, so that the examples show calls with one argument and with several.
    (
        _Level(1, 1, kinds=frozenset({Kind.person}), wording=Wording.names),
        _Level(1, 2, kinds=_TEXTS, wording=Wording.names),
    ),
    (
        _Level(1, 1, kinds=_TEXTS, wording=Wording.names),
        _Level(1, 2, kinds=_PLAIN, wording=Wording.names),
    ),
    (
        _Level(2, 1, kinds=_TEXTS, near=False, wording=Wording.names),
        _Level(2, 2, kinds=_TEXTS, near=False, wording=Wording.names),
    ),
    (_Level(2, 2, kinds=_PLAIN, near=False, wording=Wording.same),),
    (_Level(3, 2, near=False, wording=Wording.same),),
    (_Level(4, 3, optional=1),),
    (_Level(6, 4, optional=2, schemas=True, written=1),),
    (_Level(9, 6, optional=2, schemas=True, written=1),),
    (_Level(12, 7, optional=2, schemas=True, written=2),),
)
"""Of each level the kinds of items that take turns."""


def tool_calls(_: list[Path], level: int, count: int, chosen: random.Random) -> list[Any]:
    """Items of one level: tools, a request, and the call as ``{"name": …, "arguments": {…}}``.

    From level to level there are more tools and arguments, of more types. At the first three the
    request names arguments as the call is to. From the sixth it calls the tool by other words, the
    other tools differ from the right one by their object or their action only, and there are
    optional parameters that are to be left out. At the seventh and eighth, numbers, dates and
    times are in words, and half of the items show JSON schemas. At the ninth every value is to be
    worked out.

    Args:
        level: From 1 to 9.
        count: Items.
        chosen: Draws them.
    """
    turns = _LEVELS[level - 1]
    items: dict[str, dict[str, Any]] = {}
    while len(items) < count:
        hardness = turns[len(items) % len(turns)]
        tools = _tools(hardness, chosen)
        right = tools[0]
        request, arguments = ask(right, hardness.wording, hardness.written, chosen)
        chosen.shuffle(tools)
        schemas = hardness.schemas and chosen.random() < 0.5
        shown = "\n".join(
            json.dumps(tool.schema(), ensure_ascii=False) if schemas else tool.signature()
            for tool in tools
        )
        text = f"Tools:\n{shown}\nRequest: {request}\nCall:"
        call = {"name": right.name, "arguments": arguments}
        items[text] = {
            "text": text,
            "target": json.dumps(call, ensure_ascii=False),
            "level": level,
            "tools": hardness.tools,
            "arguments": len(arguments),
        }
    return list(items.values())


def _tools(level: _Level, chosen: random.Random) -> list[Tool]:
    """The right tool, then others."""
    thing, action = chosen.choice(sorted(OBJECTS)), chosen.choice(sorted(ACTIONS))
    parameters = draw_parameters(thing, level.arguments, level.optional, level.kinds, chosen)
    others = [
        (a, t)
        for t in sorted(OBJECTS)
        for a in sorted(ACTIONS)
        if ((a == action) != (t == thing) if level.near else a != action and t != thing)
    ]
    tools = [Tool(action, thing, parameters)]
    for other_action, other_thing in chosen.sample(others, level.tools - 1):
        tools.append(
            Tool(
                other_action,
                other_thing,
                parameters
                if level.near
                else draw_parameters(
                    other_thing, level.arguments, level.optional, level.kinds, chosen
                ),
            )
        )
    return tools
