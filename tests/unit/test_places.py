"""llama.cpp's places: what two questions share is computed once, and answers do not hang on that.

What computes is a stand-in whose logits follow from the tokens before, as a model's do.
"""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from runner.engines.llama_cpp.places import Places
from runner.engines.tokens import Asked, Told

pytestmark = pytest.mark.unit

VOCABULARY = 7


def logits_after(tokens: list[int]) -> "np.ndarray[Any, Any]":
    """Of a made-up model."""
    return np.random.default_rng(tokens).normal(size=VOCABULARY).astype(np.float32)


class Memory:
    """A context: keeps tokens, and checks that positions go on where they end."""

    def __init__(self, sequences: int, room: int, is_recurrent: bool) -> None:
        self.sequences, self.room, self._is_recurrent = sequences, room, is_recurrent
        self.kept: list[list[int]] = [[] for _ in range(sequences)]
        self.computed = 0

    def holds(self, sequences: int, tokens: int) -> bool:
        return self.sequences == sequences and self.room >= tokens

    def cut(self, sequence: int, tokens: int) -> int:
        left = 0 if self._is_recurrent else tokens
        del self.kept[sequence][left:]
        return left

    def chunks(self, entries: list[Any]) -> Iterator["np.ndarray[Any, Any]"]:
        rows = []
        for token, position, sequence, wanted in entries:
            assert position == len(self.kept[sequence]) < self.room
            self.kept[sequence].append(token)
            self.computed += 1
            if wanted:
                rows.append(logits_after(self.kept[sequence]))
        for start in range(0, len(rows), 3):
            yield np.stack(rows[start : start + 3])


def plain(tokens: list[int], scored: int) -> Told:
    """The answer by its definition."""
    if not scored:
        return Told(next_token=int(logits_after(tokens).argmax()))
    total, greedy = 0.0, True
    for place in range(len(tokens) - scored, len(tokens)):
        row = logits_after(tokens[:place]).astype(float)
        total += row[tokens[place]] - math.log(np.exp(row).sum())
        greedy = greedy and int(row.argmax()) == tokens[place]
    return Told(total, greedy)


@pytest.mark.parametrize("is_recurrent", [False, True])
def test_answers_are_those_of_a_model_that_begins_anew(is_recurrent: bool) -> None:
    made: list[Memory] = []

    def make(sequences: int, tokens: int) -> Any:
        made.append(Memory(sequences, tokens, is_recurrent))
        return made[-1]

    places, chosen = Places(make), random.Random(0)
    shared = [chosen.randrange(VOCABULARY) for _ in range(6)]
    asked_tokens = 0
    for _ in range(60):
        count = chosen.choice([1, 3])
        asked = []
        for place in range(count):
            own = [chosen.randrange(VOCABULARY) for _ in range(chosen.randint(1, 5))]
            tokens = shared[: chosen.randint(1, 6)] + own
            asked.append(Asked(place, tokens, scored=chosen.randint(0, len(tokens) - 1)))
            asked_tokens += len(tokens)
        for question, told in zip(asked, places.tell(asked, count, 16), strict=True):
            right = plain(question.tokens, question.scored)
            assert (told.next_token, told.is_greedy) == (right.next_token, right.is_greedy)
            if right.log_likelihood is None:
                assert told.log_likelihood is None
            else:
                assert told.log_likelihood == pytest.approx(right.log_likelihood, rel=1e-5)
    if not is_recurrent:
        assert sum(one.computed for one in made) < asked_tokens


def test_a_sequence_goes_on_with_what_is_added() -> None:
    memory = Memory(1, 16, is_recurrent=False)
    places, tokens = Places(lambda *_: memory), [1, 2, 3]  # type: ignore[arg-type, return-value]
    (told,) = places.tell([Asked(0, tokens)], 1, 16)
    for _ in range(5):
        assert told == plain(tokens, 0)
        assert told.next_token is not None
        tokens = [*tokens, told.next_token]
        (told,) = places.tell([Asked(0, tokens[-1:], more=True)], 1, 16)
    assert memory.computed == len(tokens)
