"""Suites of arithmetic, lists and functions: items, scores, and what a model's code may do."""

import functools
import itertools
import json
import random
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.data.task_items.arithmetic import arithmetic
from runner.data.task_items.functions import functions
from runner.data.task_items.levels import distinct
from runner.data.task_items.lists import lists
from runner.evaluation.lm_eval.scorers import arithmetic as sums
from runner.evaluation.lm_eval.scorers import functions as code
from runner.evaluation.lm_eval.scorers import lists as changed

pytestmark = pytest.mark.unit

Item = dict[str, Any]
MAKERS: dict[str, Callable[..., list[Item]]] = {
    "arithmetic": arithmetic,
    "lists": lists,
    "functions": functions,
}
LEVELS = range(1, 10)
HOSTILE = (
    "",
    " \n\n ",
    "Answer: " + "9" * 50_000,
    "Answer: " + "9," * 50_000,
    "answer " * 20_000,
    "Answer:" + " " * 50_000,
    "[" * 50_000,
    "," * 50_000,
    "\x00\ud800\u202e",
    "**Answer:** NaN",
)


@functools.cache
def made(suite: str, level: int, count: int = 24) -> list[Item]:
    return MAKERS[suite]([], level, count, random.Random(f"{suite} {level}"))


def score(suite: str, item: Item, answer: str) -> dict[str, float]:
    """Scores; of functions without the process of their own, for answers that are known."""
    if suite == "arithmetic":
        return sums.process_results(item, [answer])
    if suite == "lists":
        return changed.process_results(item, [answer])
    calls, expected = json.loads(item["calls"]), json.loads(item["results"])
    readings = list(code._readings(item["text"], item["function"], answer))
    found = list(code._answers(readings, item["function"], calls))
    return {"acc": float(found == expected)}


@pytest.mark.parametrize("suite", MAKERS)
def test_the_same_seed_gives_the_same_distinct_items(suite: str) -> None:
    for level in LEVELS:
        items = made(suite, level)
        assert items == MAKERS[suite]([], level, 24, random.Random(f"{suite} {level}"))
        assert len({item["text"] for item in items}) == 24
        assert {tuple(item) for item in items} == {tuple(items[0])}
        assert all(isinstance(value, str | int) for item in items for value in item.values())


@pytest.mark.parametrize("suite", MAKERS)
def test_targets_are_right_and_those_of_other_items_wrong(suite: str) -> None:
    wrong = 0
    for level in LEVELS:
        items = made(suite, level)
        for item, other in itertools.pairwise(items):
            assert set(score(suite, item, f"\n{item['target']}\n").values()) == {1.0}, item
            wrong += score(suite, item, f"\n{other['target']}")["acc"] == 0
    assert wrong >= 0.97 * 23 * len(LEVELS)


@pytest.mark.parametrize("suite", ["arithmetic", "lists"])
def test_no_hostile_answer_is_right_or_raises(suite: str) -> None:
    for level in (1, 9):
        (item,) = made(suite, level, 1)
        assert [score(suite, item, answer)["acc"] for answer in HOSTILE] == [0.0] * len(HOSTILE)


def test_a_level_with_fewer_items_gives_those() -> None:
    few = iter("abca" * 100)
    assert [item["text"] for item in distinct(lambda: {"text": next(few)}, 8)] == ["a", "b", "c"]


def test_the_working_of_word_problems_is_right_and_grows() -> None:
    steps = []
    for level in LEVELS:
        for item in made("arithmetic", level):
            working = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)\.", item["target"])
            for value, sign, by, result in working:
                # A quotient leaves no remainder.
                assert eval(f"{value} {sign} {by}") == int(result) > 0
            assert int(working[-1][-1]) == item["answer"]
            numbers = re.findall(r"\d+", item["text"])
            assert len(numbers) - len(working) - 1 == {7: 1, 8: 2, 9: 4}.get(level, 0)
        steps.append(len(working))
    assert steps == [1, 1, 1, 1, 2, 3, 5, 6, 6]


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        (" 5 + 7 = 12. Answer: 12", (1, 1)),
        ("5 + 7 = 12, so the answer is **12**.", (1, 1)),
        ("**Answer:** $12.00\nQuestion: How many? Answer: 13", (1, 1)),
        ("Answer: 012 nuts in all", (1, 1)),
        ("To find the answer, add 5. Answer: 12", (1, 1)),
        ("Answer: 12 marbles", (0, 1)),
        ("Answer: 121", (0, 1)),
        ("Answer: 12.5", (0, 1)),
        ("Answer: -12", (0, 1)),
        ("Answer: 11. Answer: 12", (0, 1)),
        ("5 + 7 = 12.", (0, 0)),
        ("5 + 7\nQuestion: What? Answer: 12", (0, 0)),
    ],
)
def test_the_number_behind_the_answer_counts(answer: str, scores: tuple[int, int]) -> None:
    item = {"answer": 12, "other_things": "marbles books"}
    assert tuple(sums.process_results(item, [answer]).values()) == scores


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        (" a, b, c", (1, 1)),
        ("\nResult: [ 'a','b' , \"C\" ].\nList: x", (1, 1)),
        ("**Result:** a, b, c\n\nI sorted it.", (1, 1)),
        ("a, b", (0, 2 / 3)),
        ("a, c, b", (0, 1 / 3)),
        ("a, b, c, d", (0, 3 / 4)),
        ("b, c, a\na, b, c", (0, 0)),
    ],
)
def test_lists_are_read_from_the_first_line(answer: str, scores: tuple[float, float]) -> None:
    found = changed.process_results({"target": "a, b, c"}, [answer])
    assert tuple(found.values()) == pytest.approx(scores)


def test_examples_of_lists_show_different_operations() -> None:
    """If all were of one kind, small models would only do that."""
    assert len({item["text"].split("\n")[1] for item in made("lists", 1)[-3:]}) == 3


ADD = {
    "text": 'def add_3(n):\n    """Return n plus 3."""',
    "function": "add_3",
    "calls": '["1", "40"]',
    "results": '["4", "43"]',
}


@pytest.mark.parametrize(
    "answer",
    [
        "\n    return n + 3",
        "    total = n\n\n    return total + 3\n\nassert add_3(1) == 4",
        "\n\treturn n + 3\n# done",
        "return n + 3",
        "total = n\nreturn total + 3",
        "Sure:\n```python\ndef add_3(n):\n    return n + 3\n```\nIt adds three.",
        "import operator\ndef add_3(n):\n    return operator.add(n, 3)\nThis adds three.",
        "```\n    return n + 3\n```",
    ],
)
def test_a_function_is_read_in_the_shapes_that_models_write(answer: str) -> None:
    assert score("functions", ADD, answer)["acc"] == 1.0


def test_right_code_runs_and_other_code_returns_other_results() -> None:
    many = "\n    import collections, dataclasses, decimal, heapq, itertools, math, random, re"
    right = {"acc": 1.0, "tests": 1.0, "runs": 1.0}
    assert code.process_results(ADD, [f"{many}\n    return n + 3"]) == right
    half = code.process_results(ADD, ["\n    return 4"])
    assert half == {"acc": 0.0, "tests": 0.5, "runs": 1.0}
    assert code.process_results(ADD, [""]) == {"acc": 0.0, "tests": 0.0, "runs": 0.0}


def test_no_code_gets_a_result_that_it_does_not_compute() -> None:
    body = (
        "\n    class Right(int):\n        def __repr__(self): return '4'"
        "\n    if n == 0: return Right(n)"
        "\n    if n == 1: return [0] * 10**10"
        "\n    import json, os"
        "\n    json.dumps = lambda found: '\"4\"'"
        "\n    os._exit(0)"
    )
    found = code._run([f"def f(n):{body}"], "f", ["0", "1", "2"])
    assert found[:2] == [None, None] and "4" not in found
    assert code.process_results(ADD, ["\n    return " + "(" * 90_000])["acc"] == 0.0


def test_code_is_kept_from_files_processes_and_the_network(tmp_path: Path) -> None:
    """Each line is tried by itself, and would leave a trace or return something."""
    kept = tmp_path / "kept"
    kept.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        tries = [
            f"open({str(tmp_path / 'new')!r}, 'w').write('x')",
            f"__import__('os').remove({str(kept)!r})",
            f"open({str(kept)!r}).read()",
            "__import__('os').fork()",
            "__import__('subprocess').run(['true'])",
            f"__import__('socket').create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)",
            "__import__('ctypes').CDLL(None).getpid()",
            "__import__('os').kill(__import__('os').getppid(), 9)",
        ]
        body = "".join(f"\n    if n == {i}: {line}; return n" for i, line in enumerate(tries))
        calls = [str(i) for i in range(len(tries) + 1)]
        found = code._run([f"def f(n):{body}\n    return n"], "f", calls)
    assert found == [None] * len(tries) + [str(len(tries))]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_code_has_limits_and_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    source = (
        "def f(name):\n    import os, resource\n"
        "    return resource.getrlimit(getattr(resource, name))[1] if name else len(os.environ)"
    )
    names = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC", "")
    found = code._run([source], "f", [repr(name) for name in names])
    limits = [code._PROCESSOR_SECONDS, code._MEMORY_BYTES, code._OUTPUT_BYTES, 0]
    # Python itself sets one (PEP 538).
    assert found[:4] == [str(limit) for limit in limits] and found[4] in ("0", "1")


def test_code_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_WALL_SECONDS", 0.1)
    assert code.process_results(ADD, ["\n    while True: pass"])["runs"] == 0.0


def test_a_process_that_cannot_start_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"):
        code.process_results(ADD, ["\n    return n + 3"])
