"""Sequences that stay in llama.cpp's memory between questions about them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.engines.distributions import ROWS_AT_ONCE, log_softmax
from runner.engines.llama_cpp.context import Context, Entry
from runner.engines.tokens import Asked, Told

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Places:
    """Places of a context, each with the tokens whose keys and values it holds."""

    def __init__(self, make: Callable[[int, int], Context]) -> None:
        """Begin without a context.

        Args:
            make: Gives an empty one, by its sequences and the tokens of each.
        """
        self._make = make
        self._context: Context | None = None
        self._held: list[list[int]] = []

    def tell(self, asked: list[Asked], places: int, tokens: int) -> list[Told]:
        """See ``TokenModel.tell``."""
        context = self._room(places, tokens)
        entries: list[Entry] = []
        wanted: list[int] = []
        for one in asked:
            added = self._entries(context, one)
            entries += added
            wanted.append(sum(last for *_, last in added))
        found = _Found(asked, wanted)
        try:
            for rows in context.chunks(entries):
                for some in range(0, len(rows), ROWS_AT_ONCE):
                    found.take(rows[some : some + ROWS_AT_ONCE])
        except BaseException:
            self.forget()
            raise
        return found.told()

    def forget(self) -> None:
        """Let somebody else have the context."""
        self._context = None
        self._held = []

    def _room(self, places: int, tokens: int) -> Context:
        if self._context is None or not self._context.holds(places, tokens):
            self.forget()
            self._context = self._make(places, tokens)
            self._held = [[] for _ in range(places)]
        return self._context

    def _entries(self, context: Context, asked: Asked) -> list[Entry]:
        """What is to be computed for a question, given what its place holds."""
        held = self._held[asked.place]
        if asked.more:
            left, tokens = len(held), [*held, *asked.tokens]
        else:
            tokens = asked.tokens
            # The first logits that are wanted follow a token that has to be computed for them.
            last = len(tokens) - 1 - asked.scored
            left = 0
            while left < min(len(held), last) and held[left] == tokens[left]:
                left += 1
            if left < len(held):
                left = context.cut(asked.place, left)
        computed = tokens[:-1] if asked.scored else tokens
        first = len(tokens) - 1 - asked.scored
        self._held[asked.place] = list(computed)
        return [
            (computed[position], position, asked.place, position >= first)
            for position in range(left, len(computed))
        ]


class _Found:
    """Answers, as rows of logits come in the order of asking."""

    def __init__(self, asked: list[Asked], wanted: list[int]) -> None:
        self._asked = asked
        self._targets = [
            one.tokens[-one.scored :][row] if one.scored else None
            for one, rows in zip(asked, wanted, strict=True)
            for row in range(rows)
        ]
        self._chosen: list[int] = []
        self._scores: list[float] = []

    def take(self, logits: "NDArray[np.float32]") -> None:
        """The next rows."""
        done = len(self._chosen)
        targets = self._targets[done : done + len(logits)]
        self._chosen += logits.argmax(axis=1).tolist()
        if all(target is None for target in targets):
            self._scores += [0.0] * len(logits)
            return
        found = log_softmax(logits)
        self._scores += [
            0.0 if target is None else float(row[target])
            for row, target in zip(found, targets, strict=True)
        ]

    def told(self) -> list[Told]:
        """One answer for each question."""
        told, row = [], 0
        for one in self._asked:
            rows = slice(row, row + max(1, one.scored))
            row = rows.stop
            if not one.scored:
                told.append(Told(next_token=self._chosen[rows][0]))
                continue
            right = self._chosen[rows] == one.tokens[-one.scored :]
            told.append(Told(log_likelihood=sum(self._scores[rows]), is_greedy=right))
        return told
