"""Scores answers of the suite ``tool_calls``: is it the call that the request asks for?

Standard library only: the file is copied beside the task's own, where ``lm_eval`` reads it.
"""

import json
from typing import Any, NoReturn

_MOST_CHARACTERS = 100_000
"""No right answer comes near; what is longer is cut, so that reading it stays cheap."""


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Shares of one answer, each 1.0 or 0.0.

    The answer is the JSON object that begins with its first brace. What stands around it (a code
    fence, a remark, the next request) is not looked at.

    Args:
        doc: The item; its ``target`` is the right call.
        results: The answer.

    Returns:
        ``valid_json``: an object of ``name`` (a string) and ``arguments`` (an object), nothing
        else, no key twice. ``right_tool``: the right name. ``right_arguments``: the right names
        and values of all arguments, by JSON's types: ``2.0`` is ``2``, ``"2"`` and ``true`` are
        not. ``acc``: all three.
    """
    right = json.loads(doc["target"])
    call = _call(results[0])
    if call is None:
        return {"acc": 0.0, "valid_json": 0.0, "right_tool": 0.0, "right_arguments": 0.0}
    tool = call["name"] == right["name"]
    arguments = _same(right["arguments"], call["arguments"])
    return {
        "acc": float(tool and arguments),
        "valid_json": 1.0,
        "right_tool": float(tool),
        "right_arguments": float(arguments),
    }


def _call(answer: str) -> dict[str, Any] | None:
    start = answer.find("{")
    if start < 0:
        return None
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
    try:
        call, _ = decoder.raw_decode(answer[start : start + _MOST_CHARACTERS])
    # Too deep, or an integer with more digits than Python reads.
    except (ValueError, RecursionError):
        return None
    if set(call) != {"name", "arguments"}:
        return None
    if not isinstance(call["name"], str) or not isinstance(call["arguments"], dict):
        return None
    return dict(call)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _same(right: Any, given: Any) -> bool:
    """Whether two JSON values are equal; no deeper than the right one."""
    if isinstance(right, bool) or isinstance(given, bool):
        return right is given
    if isinstance(right, int | float):
        return isinstance(given, int | float) and right == given
    if isinstance(right, dict):
        return (
            isinstance(given, dict)
            and right.keys() == given.keys()
            and all(_same(value, given[key]) for key, value in right.items())
        )
    if isinstance(right, list):
        return (
            isinstance(given, list) and len(right) == len(given) and all(map(_same, right, given))
        )
    return isinstance(given, str) and right == given
