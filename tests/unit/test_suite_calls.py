"""Suites of tool calls and of instructions: items and scores."""

import functools
import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from runner.data.task_items.instructions import instructions
from runner.data.task_items.tool_calls import tool_calls
from runner.evaluation.lm_eval.scorers import instructions as following
from runner.evaluation.lm_eval.scorers import tool_calls as calling

pytestmark = pytest.mark.unit

Item = dict[str, Any]
Maker = Callable[..., list[Item]]
SUITES: dict[str, tuple[Maker, Any]] = {
    "tool_calls": (tool_calls, calling),
    "instructions": (instructions, following),
}
LEVELS = {"tool_calls": range(1, 10), "instructions": range(1, 9)}
HOSTILE = (
    "",
    " \n\n ",
    "{" * 50_000,
    '{"a":' * 50_000,
    "[" * 50_000,
    "." * 50_000 + "a",
    "\n" * 50_000 + "x" * 50_000,
    '"' * 50_000,
    '{"name": NaN, "arguments": {}}',
    '{"name": ' + "9" * 50_000 + "}",
    '{"name": "find_order", "arguments": 1e999}',
    '{"name": "\\ud800", "arguments": {"a": Infinity}}',
    "\x00\ud800\u202e",
    "* \n* \n*",
    "1.\n2.\n",
    "null",
)


@functools.cache
def made(suite: str, level: int, count: int = 24) -> list[Item]:
    return SUITES[suite][0]([], level, count, random.Random(f"{suite} {level}"))


def score(suite: str, item: Item, answer: str) -> dict[str, float]:
    scores: dict[str, float] = SUITES[suite][1].process_results(item, [answer])
    return scores


@pytest.mark.parametrize("suite", SUITES)
def test_the_same_seed_gives_the_same_distinct_items(suite: str) -> None:
    for level in LEVELS[suite]:
        items = made(suite, level)
        assert items == SUITES[suite][0]([], level, 24, random.Random(f"{suite} {level}"))
        assert len({item["text"] for item in items}) == 24
        assert {tuple(item) for item in items} == {tuple(items[0])}
        assert all(isinstance(value, str | int) for item in items for value in item.values())


@pytest.mark.parametrize("suite", SUITES)
def test_targets_are_right_and_those_of_other_items_wrong(suite: str) -> None:
    for level in LEVELS[suite]:
        items = made(suite, level)
        for item in items:
            right = score(suite, item, f" {item['target']}\n")
            assert set(right.values()) == {1.0}, item
        shuffled = [
            score(suite, item, other["target"])["acc"] for item, other in itertools.pairwise(items)
        ]
        assert sum(shuffled) <= 1


@pytest.mark.parametrize("suite", SUITES)
def test_no_hostile_answer_is_right_or_raises(suite: str) -> None:
    for level in LEVELS[suite]:
        for item in made(suite, level, 3):
            assert [score(suite, item, answer)["acc"] for answer in HOSTILE] == [0.0] * len(HOSTILE)


@pytest.mark.parametrize("suite", SUITES)
def test_an_answer_is_right_though_the_model_goes_on(suite: str) -> None:
    for level in LEVELS[suite]:
        item = made(suite, level)[0]
        following_turn = f"{item['target']}\n\n{item['text']} no"
        assert score(suite, item, following_turn)["acc"] == 1.0


def test_examples_show_every_kind() -> None:
    """One kind only in the examples makes small models answer whatever they are asked like it."""
    asked = [json.loads(item["constraints"])[0][0] for item in made("instructions", 1)]
    assert set(asked[-3:]) == {"only", "include", "start"}
    assert {(item["tools"], item["arguments"]) for item in made("tool_calls", 1)[-2:]} == {
        (1, 1),
        (1, 2),
    }


def test_levels_of_tool_calls_have_more_tools_and_arguments() -> None:
    sizes = [
        (item["tools"], item["arguments"])
        for level in LEVELS["tool_calls"]
        for item in made("tool_calls", level)[:1]
    ]
    assert sizes == [(1, 1), (1, 1), (2, 1), (2, 2), (3, 2), (4, 3), (6, 4), (9, 6), (12, 7)]


def test_a_request_decides_between_tools() -> None:
    """No tool is offered twice, and the right one is not always in the same place."""
    for level in LEVELS["tool_calls"]:
        places = set()
        for item in made("tool_calls", level):
            offered = item["text"].split("\nRequest:")[0].splitlines()[1:]
            names = [
                json.loads(line)["name"] if line.startswith("{") else line.split("(")[0]
                for line in offered
            ]
            assert len(set(names)) == item["tools"]
            places.add(names.index(json.loads(item["target"])["name"]))
        assert level < 3 or len(places) > 1


def test_optional_arguments_are_left_out() -> None:
    for item in made("tool_calls", 6):
        offered = item["text"].split("\nRequest:")[0]
        optional = {part.split("?")[0].split()[-1].split("(")[-1] for part in _optional(offered)}
        assert optional
        assert not optional & set(json.loads(item["target"])["arguments"])


def _optional(offered: str) -> list[str]:
    return [part for part in offered.replace("(", ", ").split(", ") if "?:" in part]


CALL = {
    "text": "",
    "target": json.dumps(
        {
            "name": "find_order",
            "arguments": {"pieces": 2, "price": 2.5, "urgent": True, "to": ["A"]},
        }
    ),
    "level": 1,
}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{"arguments":{"to":["A"],"urgent":true,"price":2.5,"pieces":2},'
         '"name":"find_order"}', "vta"),
        ('```json\n{"name": "find_order", "arguments": {"pieces": 2.0, "price": 2.50,\n'
         '"urgent": true, "to": ["A"]}}\n```', "vta"),
        ('{"name": "find_orders", "arguments": {"pieces": 2, "price": 2.5, "urgent": true, '
         '"to": ["A"]}}', "va"),
        ('{"name": "find_order", "arguments": {"pieces": "2", "price": 2.5, "urgent": true, '
         '"to": ["A"]}}', "vt"),
        ('{"name": "find_order", "arguments": {"pieces": 2, "price": 2.5, "urgent": 1, '
         '"to": ["A"]}}', "vt"),
        ('{"name": "find_order", "arguments": {"pieces": 2, "price": 2.5, "urgent": true, '
         '"to": ["A", "B"]}}', "vt"),
        ('{"name": "find_order", "arguments": {"pieces": 2, "price": 2.5, "urgent": true, '
         '"to": ["A"], "more": null}}', "vt"),
        ('{"name": "find_order", "arguments": "{}"}', ""),
        ('{"name": "find_order", "parameters": {}}', ""),
        ('{"name": "find_order", "name": "find_order", "arguments": {}}', ""),
        ('{"name": "find_order", "arguments": {}', ""),
    ],
)  # fmt: skip
def test_a_call_is_compared_by_json_types(answer: str, right: str) -> None:
    found = score("tool_calls", CALL, answer)
    shares = {"v": "valid_json", "t": "right_tool", "a": "right_arguments"}
    assert {letter for letter, share in shares.items() if found[share]} == set(right)
    assert found["acc"] == float(right == "vta")


@pytest.mark.parametrize(
    ("kind", "value", "kept", "broken"),
    [
        ("only", ["a", "b"], '"A b."', "a b c"),
        ("include", ["cup"], "One CUP, please.", "Some cups."),
        ("exclude", ["cup"], "Some cups.", "One cup."),
        ("start", "now it", "Now it is.", "It is now."),
        ("end", "now", "It is now!", "Now it is."),
        ("times", ["cup", 2], "cup and Cup", "cup"),
        ("no_letter", "e", "A cup", "A TREE"),
        ("bullets", 2, "* a\n- b", "* a\nb"),
        ("numbered", 2, "1. a\n2) b", "1. a\n3. b"),
        ("parts", ["|", 2], "a | b", "a | "),
        ("json", ["a", "b"], '```\n{"a": 1, "b": "c"}\n```', '{"b": 1, "a": 2}'),
        ("lengths", [3, 2], "cup, of", "cups of"),
        ("words", 3, "It's a well-known.", "a b - c d"),
        ("between", [2, 3], "a b", "a"),
        ("sentences", 2, 'He said "Go!" Then 1.5 km', "A b. C d. E f."),
        ("upper", "", "A CUP.", "A CuP."),
        ("lower", "", "a cup.", "A cup."),
        ("quoted", "", '"a cup"', '"a cup'),
        ("line_words", 2, "a b\nc d", "a b\nc"),
        ("acrostic", "ab", "Apple c\nbird d", "apple c\n- \nbird d"),
    ],
)
def test_each_constraint_is_checked(kind: str, value: Any, kept: str, broken: str) -> None:
    item = {"instruction": "Do it.", "constraints": json.dumps([[kind, value], ["exclude", ["x"]]])}
    assert following.process_results(item, [kept]) == {"acc": 1.0, "constraints": 1.0}
    assert following.process_results(item, [broken]) == {"acc": 0.0, "constraints": 0.5}


def test_every_kind_of_constraint_is_asked_for() -> None:
    asked = {
        kind
        for level in LEVELS["instructions"]
        for item in made("instructions", level)
        for kind, _ in json.loads(item["constraints"])
    }
    assert asked == {*following.CHECKS, "repeat"}


def test_the_instruction_said_again_is_no_answer() -> None:
    item = next(item for item in made("instructions", 1) if "sentence" in item["instruction"])
    assert following.process_results(item, [item["instruction"]])["constraints"] == 0.0
    repeated = made("instructions", 6)[0]
    request = json.loads(repeated["constraints"])[0][1]
    assert following.process_results(repeated, [request])["constraints"] == 0.0
    without = repeated["target"].removeprefix(request)
    kept = following.process_results(repeated, [without])
    assert kept == {"acc": 0.0, "constraints": pytest.approx(5 / 6)}
