"""Calibration windows: from one text or a mix, without repeats, in a seeded order.

Nothing is padded. A padding token is a row of activations like any other: it would be summed
into GPTQ's Hessian, AWQ's and SmoothQuant's ranges and an importance matrix.
"""

import hashlib
import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema.calibration import Calibration, Cut, windows_of_parts
from runner.data.texts.conversations import require_template, write_conversation
from runner.data.texts.degenerate import LEFT_OUT, is_degenerate
from runner.data.texts.documents import Document, Placed, load_placed, plain
from runner.data.texts.vocabulary import Vocabulary
from runner.data.texts.windows import encode, required_bos, tokenizer_of, with_bos
from runner.errors import StageError


@dataclass
class Part:
    """What one text gave."""

    text: str
    windows: int
    tokens: int
    documents: int
    duplicates: int
    """Documents left out because the same words came before."""
    left_out: int = 0
    """Windows that were drawn and left out: see ``is_degenerate``."""


def cut_windows(
    calibration: Calibration,
    names: list[str],
    directories: list[Path],
    tokenizer_directory: Path,
    trust_remote_code: bool,
) -> tuple[list[list[int]], list[Part]]:
    """Windows of token ids, and what each text gave.

    Args:
        calibration: What is asked for; its parts are the texts, in order.
        names: Names of the texts.
        directories: Where each text's documents lie.
        tokenizer_directory: The unquantized model's.
        trust_remote_code: Whether the tokenizer's own code may run.

    Raises:
        StageError: A text is too short, the model has no chat template or one that does not take
            a conversation, or no embedding for a token.
    """
    tokenizer = tokenizer_of(tokenizer_directory, trust_remote_code)
    if calibration.apply_chat_template:
        require_template(tokenizer)
    vocabulary = Vocabulary(tokenizer, tokenizer_directory)
    bos = required_bos(tokenizer, tokenizer_directory)
    cutter = _Cutter(calibration, tokenizer, bos)
    seen: set[str] = set()
    windows: list[list[int]] = []
    parts = []
    counts = windows_of_parts(calibration)
    for name, directory, count in zip(names, directories, counts, strict=True):
        whole, skipped = load_placed(directory), calibration.skip_documents
        for placed in whole[:skipped]:
            # What is a copy of what is evaluated stays unseen too.
            _first(placed.document, seen)
        documents = whole[skipped:]
        if not documents:
            raise StageError(
                f"text {name} has {len(whole)} documents, all of which are skipped: set "
                "calibration.skip_documents lower, or use a longer text"
            )
        fresh = [placed for placed in documents if _first(placed.document, seen)]
        found, left_out = cutter.cut(name, fresh, count)
        vocabulary.require((token for window in found for token in window), f"text {name}")
        windows += found
        duplicates = len(documents) - len(fresh)
        tokens = sum(map(len, found))
        parts.append(Part(name, len(found), tokens, len(documents), duplicates, left_out))
    if len(parts) > 1:
        cutter.chosen.shuffle(windows)
    return windows, parts


def digest(windows: list[list[int]]) -> str:
    """SHA-256 of the exact token windows, in order."""
    return hashlib.sha256(json.dumps(windows).encode()).hexdigest()


def _first(document: Document, seen: set[str]) -> bool:
    """Whether no document before had the same words; notes this one."""
    words = " ".join(plain(document).lower().split())
    mark = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()
    known = mark in seen
    seen.add(mark)
    return not known


class _Cutter:
    """Cuts texts one after the other; no window twice."""

    def __init__(self, calibration: Calibration, tokenizer: Any, bos: int | None) -> None:
        self.chosen = random.Random(calibration.seed)
        self._calibration = calibration
        self._tokenizer = tokenizer
        self._bos = bos
        self._taken: set[tuple[int, ...]] = set()
        self._left_out = 0

    def cut(self, name: str, documents: list[Placed], count: int) -> tuple[list[list[int]], int]:
        """Windows of a text, and how many were drawn and left out."""
        self._left_out = 0
        per_sample = self._calibration.cut is Cut.per_sample
        windows = (self._per_sample if per_sample else self._concatenated)(name, documents, count)
        return windows, self._left_out

    def _concatenated(self, name: str, documents: list[Placed], count: int) -> list[list[int]]:
        """Disjoint windows of full length, drawn from all of the joined text."""
        length, skipped = self._calibration.sequence_length, self._calibration.skip_tokens
        if self._calibration.apply_chat_template:
            ids = [token for placed in documents for token in self._ids(placed)]
        else:
            ids = encode(self._tokenizer, [plain(placed.document) for placed in documents])
        ids = ids[skipped:]
        available = len(ids) // length
        if available < count:
            beyond = f" beyond the {skipped} that are skipped" if skipped else ""
            raise _too_short(
                f"has {len(ids)} tokens{beyond}, calibration asks for "
                f"{count * length} ({count} windows of {length})",
                name,
                available,
            )
        order = self.chosen.sample(range(available), count)
        windows = self._new(ids, length, order, count)
        if len(windows) < count:
            others = sorted(set(range(available)) - set(order))
            self.chosen.shuffle(others)
            windows += self._new(ids, length, others, count - len(windows))
        if len(windows) < count:
            raise _too_short(
                f"has {len(windows)} different windows of {length} tokens{self._without()}, "
                f"calibration asks for {count}",
                name,
                len(windows),
            )
        return windows

    def _new(self, ids: list[int], length: int, order: list[int], most: int) -> list[list[int]]:
        windows = (
            with_bos(ids[index * length : (index + 1) * length], self._bos) for index in order
        )
        return list(itertools.islice(filter(self._counts, windows), most))

    def _per_sample(self, name: str, documents: list[Placed], count: int) -> list[list[int]]:
        """The beginnings of documents drawn at random, those that are long enough."""
        length, least = self._calibration.sequence_length, self._calibration.minimum_length
        least = length if least is None else least
        order = list(range(len(documents)))
        self.chosen.shuffle(order)
        windows: list[list[int]] = []
        for index in order:
            window = self._ids(documents[index])[self._calibration.skip_tokens :][:length]
            window = with_bos(window, self._bos) if window else window
            if len(window) >= least and self._counts(window):
                windows.append(window)
            if len(windows) == count:
                return windows
        raise _too_short(
            f"has {len(windows)} documents of at least {least} tokens{self._without()}, "
            f"calibration asks for {count}; lower calibration.minimum_length, or set "
            "calibration.cut=concatenated",
            name,
            len(windows),
        )

    def _ids(self, placed: Placed) -> list[int]:
        ids: list[int]
        document = placed.document
        if self._calibration.apply_chat_template and not isinstance(document, str):
            # The template writes the special tokens itself.
            written = write_conversation(self._tokenizer, document, placed.place)
            ids = self._tokenizer(written, add_special_tokens=False)["input_ids"]
        else:
            ids = self._tokenizer(plain(document))["input_ids"]
        return ids

    def _counts(self, window: list[int]) -> bool:
        """Whether a window is text that was not taken before."""
        mark = tuple(window)
        known = mark in self._taken
        self._taken.add(mark)
        if degenerate := is_degenerate(window):
            self._left_out += 1
        return not (known or degenerate)

    def _without(self) -> str:
        return f" ({self._left_out} others left out: {LEFT_OUT})" if self._left_out else ""


def _too_short(what: str, name: str, available: int) -> StageError:
    fix = "use a longer text, or lower calibration.sequence_length"
    if available:
        fix = f"set calibration.samples lower (this text has {available}), or use a longer text"
    return StageError(f"text {name} {what}: {fix}")
