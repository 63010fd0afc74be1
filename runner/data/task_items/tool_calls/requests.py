"""Requests in words."""

import random
from enum import Enum
from typing import Any

from runner.data.task_items.choose import enumerated
from runner.data.task_items.tool_calls.tools import ACTIONS, Tool
from runner.data.task_items.tool_calls.values import Kind, Said, say

_FRAMES = ("{} {} {}.", "Please {} {} {}.", "I want you to {} {} {}.", "Can you {} {} {}?")


class Wording(Enum):
    """How a request names a tool and its arguments."""

    names = "names"
    """In the tool's words, arguments too: ``Find an order with person Sven``."""
    same = "same"
    """The tool in its words, arguments by what they are: ``Find an order for Sven``."""
    other = "other"
    """In others: ``Can you look up an order for Sven?``"""


def ask(
    tool: Tool, wording: Wording, written: int, chosen: random.Random
) -> tuple[str, dict[str, Any]]:
    """A request for a tool, and the arguments that it gives.

    Args:
        tool: Its parameters are all given but for the optional ones.
        wording: How it names the tool and its arguments.
        written: How values are said, see ``say``.
        chosen: Draws words and values.
    """
    phrases, arguments = [], {}
    for parameter in tool.parameters:
        if parameter.optional:
            continue
        phrase = parameter.phrase
        if parameter.kind is Kind.flag:
            value, said = chosen.choice(((True, "true"), (False, "false")))
            phrase = phrase.split("|")[0 if value else 1]
        elif parameter.choices:
            value, said = _chosen(parameter.choices, chosen)
        else:
            value, said = say(parameter.kind, written, chosen)
        if wording is Wording.names:
            phrase = f"{parameter.name} {{}}"
        phrases.append(phrase.format(said))
        arguments[parameter.name] = value
    thing = f"{'an' if tool.thing[0] in 'aeio' else 'a'} {tool.thing}"
    if wording is not Wording.names:
        chosen.shuffle(phrases)
    if wording is not Wording.other:
        preposition = "with " if wording is Wording.names else ""
        return f"{tool.action.capitalize()} {thing} {preposition}{enumerated(phrases)}.", arguments
    frame, action = chosen.choice(_FRAMES), chosen.choice(ACTIONS[tool.action])
    if frame is not _FRAMES[0]:
        action = action[0].lower() + action[1:]
    return frame.format(action, thing, enumerated(phrases)), arguments


def _chosen(choices: tuple[str, ...], chosen: random.Random) -> Said:
    value = chosen.choice(choices)
    return value, value
