"""Stores a model's answers to requests as soon as they are known.

lm-evaluation-harness has such a cache (``--use_cache``), of pickles in a database. This one is
lines of JSON, in which floats keep all their digits, and tells how far the work is.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from runner.store.files import write_text_atomically
from runner.store.journal import checked_line, content_of

_GENERATE = "generate_until"
"""The harness's name for answers that are generated."""


class Answers:
    """What a model answered, by what it was asked; kept in one file.

    A killed process leaves the lines it wrote. A line that is not what it was is dropped.
    """

    def __init__(self, path: Path, say: Callable[[int, int], None]) -> None:
        """Go on with ``path`` if it exists.

        Args:
            path: Lines of JSON, each behind its digest: what was asked (hashed) and the answer, and
                of a generated one its tokens.
            say: Told how many of how many requests have an answer.
        """
        self._known: dict[str, Any] = {}
        self._tokens: dict[str, list[int]] = {}
        self._pending: deque[list[int]] = deque()
        self._generated: dict[tuple[str, str], list[int]] = {}
        self._say = say
        self._done = 0
        self._total = 0
        if path.exists():
            content = path.read_bytes().decode("utf-8", "replace")
            lines = content.split("\n")
            whole = [line for line in map(content_of, lines) if line is not None]
            for key, answer, *tokens in map(json.loads, whole):
                self._known[key] = answer
                if tokens:
                    self._tokens[key] = tokens[0]
            if len(whole) != len(lines) - 1 or lines[-1]:
                write_text_atomically(path, "".join(map(checked_line, whole)))
        self.found = len(self._known)
        """Answers that were there at the start."""
        self._stream = path.open("a", encoding="utf-8")

    def complete(
        self, kind: str, requests: Sequence[Any], compute: Callable[[list[Any]], list[Any]]
    ) -> list[Any]:
        """Answers to all requests; only those not known are computed.

        Args:
            kind: Name of the model's method.
            requests: What lm-evaluation-harness asks; ``args`` of each says it all.
            compute: Asks the model. It is expected to call ``add_partial`` as it goes on.
        """
        keys = [_key(kind, request.args) for request in requests]
        answers = [
            None if _drawn(kind, request.args) else self._known.get(key)
            for key, request in zip(keys, requests, strict=True)
        ]
        left = [number for number, answer in enumerate(answers) if answer is None]
        self._total, self._done = len(requests), len(requests) - len(left)
        self._say(self._done, self._total)
        fresh = compute([requests[number] for number in left]) if left else []
        for number, answer in zip(left, fresh, strict=True):
            answers[number] = answer
            self._keep(kind, requests[number].args, answer)
        self._say(self._total, self._total)
        return [tuple(answer) if isinstance(answer, list) else answer for answer in answers]

    def generated(self, rows: Iterable[Sequence[int]]) -> None:
        """Take tokens as a model generated them, before the answers made of them are added in turn.

        Args:
            rows: One of each text of a batch; what follows its end may be in it.
        """
        self._pending = deque(list(row) for row in rows)

    def tokens_of(self, arguments: Sequence[Any], answer: str) -> list[int] | None:
        """Tokens that an answer was made of; ``None`` where the engine does not tell them."""
        drawn = self._generated.get((arguments[0], answer))
        return self._tokens.get(_key(_GENERATE, arguments), drawn)

    def add_partial(self, kind: str, arguments: Sequence[Any], answer: Any) -> None:
        """Keep an answer; called by the harness's models under this name."""
        self._done += 1
        if kind == _GENERATE and self._pending:
            # Harness's models give answers in the order of their batch, some under arguments of
            # their own: prompt and text are what is the same of those and of the request's.
            self._generated[arguments[0], answer] = self._pending.popleft()
        self._say(min(self._done, self._total), self._total)
        self._keep(kind, arguments, answer)

    def _keep(self, kind: str, arguments: Sequence[Any], answer: Any) -> None:
        key = _key(kind, arguments)
        if key in self._known or _drawn(kind, arguments):
            return
        self._known[key] = answer
        content = [key, answer]
        if kind == _GENERATE and (tokens := self._generated.get((arguments[0], answer))):
            self._tokens[key] = tokens
            content.append(tokens)
        self._stream.write(checked_line(json.dumps(content)))
        # Into the kernel's hands: what is there survives this process.
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _key(kind: str, arguments: Sequence[Any]) -> str:
    content = json.dumps([kind, *arguments], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _drawn(kind: str, arguments: Sequence[Any]) -> bool:
    """Whether the answer is a draw, of which no two need be equal."""
    return kind == _GENERATE and bool(arguments[1].get("do_sample", False))
