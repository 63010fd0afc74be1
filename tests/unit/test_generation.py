"""Generated answers as text: loops, thoughts, tokens in common with the unquantized model's."""

import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.evaluation.lm_eval.answers import Answers
from runner.evaluation.lm_eval.generated import (
    add_generated,
    generation,
    thinking_of,
    tokens_of_text,
)
from runner.evaluation.lm_eval.scores import samples_of
from runner.evaluation.metrics.generation import Answer, Thinking, generation_of
from runner.evaluation.metrics.loops import Loop, find_loop

pytestmark = pytest.mark.unit

DEGENERATE = {
    # SmolLM2-135M-Instruct, greedy, 96 tokens, unquantized or at 4 bits; cut off as they were.
    " The only naturally occurring isotope of francium is francium.\n\nThe only naturally "
    "occurring isotope of francium is francium.\n\nThe only naturally occurring isotope of "
    "francium is francium.\n\nThe only naturally occurring isotope of francium is francium.\n\n"
    "The only naturally occurring isotope of f": 4,
    " when it is hungry. It is very curious. It is very curious. It is very curious. It is very "
    "curious. It is very curious. It is very curious. It is very curi": 5,
    " the International System of the National Radiocarbon Radiocarbon Radiocarbon Radiocarbon "
    "Radiocarbon Radiocarbon Radiocarbon Radiocarbon Radiocarbon Radiocar": 8,
}
SOUND = (
    " a 2013n, a 2014n, and a 2015n, a 2016n, a 2017n, a 2018n, a 2019n, a 2020n, a 2021n, a 2022n",
    " win the title in a single season.\n\nThe 2013 Australian Open was the first time a female "
    "player won.\n\nThe 2014 Australian Open was the first time a female player won the title.",
    " It is very curious. It is very curious. It is very curious. It is very curious. It is very "
    "curious. But then it went home, and nobody has seen it since.",
    " 0 0 0 0",
    "",
)


def ids(text: str) -> list[int]:
    """Words and what is between them as numbers."""
    known: dict[str, int] = {}
    return [known.setdefault(part, len(known)) for part in re.findall(r"\w+|\W", text)]


def slow_loop(tokens: list[int], repeats: int, least: int) -> Loop | None:
    """By the definition: every end and every period."""
    for length in range(len(tokens), least - 1, -1):
        end = tokens[len(tokens) - length :]
        for period in range(1, length // repeats + 1):
            if end[period:] == end[:-period]:
                return Loop(period, length)
    return None


@pytest.mark.parametrize(("text", "repeats"), DEGENERATE.items())
def test_real_degenerate_answers_end_in_a_loop(text: str, repeats: int) -> None:
    # The last word is cut, as answers are at their limit; its token is another than the word's.
    loop = find_loop(ids(text)[:-1])
    assert loop is not None
    assert loop.tokens // loop.period >= repeats - 1


@pytest.mark.parametrize("text", SOUND)
def test_counts_and_what_was_got_out_of_are_no_loops(text: str) -> None:
    assert find_loop(ids(text)) is None


def test_loops_are_those_of_the_definition() -> None:
    chosen = random.Random(0)
    found = 0
    for _ in range(150):
        unit = [chosen.randrange(3) for _ in range(chosen.randint(1, 6))]
        start = [chosen.randrange(3) for _ in range(chosen.randint(0, 9))]
        tokens = start + (unit * 6)[: chosen.randint(0, 24)]
        expected = slow_loop(tokens, 3, 9)
        assert find_loop(tokens, 3, 9) == expected
        found += expected is not None
    assert 30 < found < 120


def answer(text: str, thinking: Thinking = Thinking.none, limit: int | None = 4) -> Answer:
    """Letters are its tokens."""
    return Answer(text, tuple(map(ord, text)), 10, limit, thinking)


def test_answers_are_compared_token_by_token() -> None:
    before = [answer("abcd"), answer("abcd"), answer("ab"), answer("xy")]
    after = [answer("abcd"), answer("abxd"), answer("abcd"), answer("  ")]
    found = generation_of(after, before)
    assert found is not None and found.change is not None
    assert (found.answers, found.tokens, found.prompt_tokens) == (4, 3.5, 10)
    assert (found.at_limit, found.empty) == (0.75, 0.25)
    change = found.change
    assert change.common_tokens is not None and change.common_share is not None
    assert change.common_tokens.estimate == (4 + 2 + 2 + 0) / 4
    assert change.common_share.estimate == (1 + 0.5 + 0.5 + 0) / 4
    assert change.token_agreement == 8 / (8 + 3)
    assert change.identical == 0.25
    assert change.length_ratio is not None
    assert change.length_ratio.estimate == 14 / 12
    assert change.length_ratio.low < 14 / 12 < change.length_ratio.high
    assert (change.empty.lost, change.empty.gained) == (0, 1)


def test_what_is_not_known_stays_unknown() -> None:
    assert generation_of([]) is None
    found = generation_of([answer("ab"), answer("", limit=None)], [answer(""), answer("")])
    assert found is not None and found.change is not None
    assert found.at_limit is None
    assert found.change.length_ratio is None
    alone = generation_of([answer("")], [answer("")])
    assert alone is not None and alone.change is not None
    assert alone.change.identical == 1
    assert (alone.change.common_tokens, alone.change.token_agreement) == (None, None)
    drawn = Answer("ab", (1, 2), 1, 4, is_greedy=False)
    other = generation_of([drawn], [drawn])
    assert other is not None and other.change is None


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("2 + 2?", "<think>two and two</think>4", Thinking.finished),
        ("2 + 2?", "<think>two and two, or", Thinking.unfinished),
        ("2 + 2?<think>\n", "two and two</think>4", Thinking.finished),
        ("2 + 2?<think>\n", "two and two, or", Thinking.unfinished),
        ("2 + 2?", "<think>a</think> no <think> again", Thinking.unfinished),
        ("Think in <think> and </think>. 2 + 2?", "4", Thinking.none),
        ("2 + 2?", "[THINK]two", Thinking.unfinished),
        ("2 + 2?", "4", Thinking.none),
    ],
)
def test_a_thought_is_finished_or_not(prompt: str, text: str, expected: Thinking) -> None:
    assert thinking_of(prompt, text) is expected


class Letters:
    """A tokenizer of letters, in which 0 ends a text."""

    all_special_ids = (0,)

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": list(map(ord, text))}

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(map(chr, tokens)).replace("\0", "")


def test_tokens_are_those_before_the_end_and_the_stop_word() -> None:
    letters = list(map(ord, "ab\n\ncd"))
    assert tokens_of_text([*letters, 0, 0], "ab\n\ncd", Letters()) == letters
    assert tokens_of_text([*letters, 0, 0], "ab", Letters()) == letters[:2]
    assert tokens_of_text([0, 0], "", Letters()) == []


def test_generated_tokens_are_kept_with_an_answer_and_found_again(tmp_path: Path) -> None:
    """Whether they were told, found in a file, or neither."""
    settings = {"until": ["\n"], "max_gen_toks": 3}
    requests = [SimpleNamespace(args=(prompt, settings)) for prompt in ("one", "two", "one")]

    def compute(left: list[Any]) -> list[str]:
        answers.generated([[*map(ord, request.args[0]), 0] for request in left])
        for request in left:
            # As vLLM's class of the harness does: under arguments of its own.
            own = (request.args[0], {**settings, "temperature": 0})
            answers.add_partial("generate_until", own, request.args[0])
        return [request.args[0] for request in left]

    answers = Answers(tmp_path / "answers.jsonl", lambda *_: None)
    assert answers.complete("generate_until", requests, compute) == ["one", "two", "one"]
    answers.close()
    again = Answers(tmp_path / "answers.jsonl", lambda *_: None)
    model = SimpleNamespace(tokenizer=Letters())
    for known, expected in ((answers, "one"), (again, "one"), (None, "one")):
        empty = Answers(tmp_path / "none.jsonl", lambda *_: None)
        logged = [
            {
                "doc": {}, "doc_id": 0, "filter": which, "target": "", "metrics": [],
                "filtered_resps": [""], "doc_hash": "d", "prompt_hash": "p",
                "arguments": [("one", settings)], "resps": [["one"]],
            }
            for which in ("none", "last")
        ]  # fmt: skip
        samples = list(samples_of("t", "generate_until", logged))
        add_generated(samples, logged, model, known or empty)
        assert samples[0]["generated"]["tokens"] == list(map(ord, expected))
        assert "generated" not in samples[1]
        found = generation(samples, samples)
        assert found is not None and found.change is not None
        # Text that was tokenized anew does not tell whether the limit was reached.
        assert found.at_limit == (None if known is None else 1.0)
        older = [{k: v for k, v in sample.items() if k != "generated"} for sample in samples]
        unpaired = generation(samples, older)
        assert unpaired is not None and unpaired.change is None
