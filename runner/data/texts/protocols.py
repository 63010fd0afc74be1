"""Cuts a text into windows, one way for each perplexity protocol.

A model sees all tokens of a window but the last and predicts all but the first. A protocol says
which windows there are and how many of each one's last predictions count.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config.schema.eval import Bos, PerplexityProtocol
from runner.data.texts.degenerate import is_degenerate
from runner.data.texts.sample import DOCUMENTS, LEADING, SPREAD, WINDOWS, Sample
from runner.data.texts.spread import spread_windows
from runner.data.texts.vocabulary import Vocabulary
from runner.data.texts.windows import (
    cut_leading,
    needs_bos,
    read_documents_file,
    tokenizer_of,
    with_bos,
)
from runner.errors import StageError


@dataclass(frozen=True)
class Window:
    """Tokens to look at together."""

    tokens: list[int]
    scored: int
    """How many of the last predictions count."""


@dataclass(frozen=True)
class Excerpt:
    """How much of which text to take, and in whose tokens."""

    text_directory: Path
    tokenizer_directory: Path
    length: int
    """Tokens in a window."""
    count: int
    """Windows, or as many tokens as they hold."""
    trust_remote_code: bool
    bos: Bos = Bos.auto


@dataclass(frozen=True)
class ProtocolText:
    """A text cut up as a protocol demands."""

    name: str
    """Protocol and context length, as in the metric's name."""
    windows: list[Window]
    sample: Sample = field(default_factory=Sample)
    words: int | None = None
    """Of the original text, split at whitespace (protocol lm_eval alone)."""
    bytes: int | None = None
    """Of the original text in UTF-8 (protocol lm_eval alone)."""
    degenerate: int = 0
    """Windows of almost no distinct tokens that are scored all the same, as was published."""


def protocol_name(protocol: PerplexityProtocol, context_length: int, bos: bool = False) -> str:
    """A protocol's part of a metric's name, such as ``gptq_2048`` or ``spread_bos_512``.

    Args:
        protocol: Which one.
        context_length: Tokens in a window.
        bos: Whether windows begin with BOS, where the protocol leaves that open.
    """
    begin = "_bos" if bos and protocol.takes_bos else ""
    return f"{protocol.value}{begin}_{context_length}"


def protocol_text(protocol: PerplexityProtocol, excerpt: Excerpt) -> ProtocolText:
    """Cut a text up: about ``count`` times ``length`` tokens of it.

    Raises:
        StageError: The text is too short, the model has no embedding for a token of it, or it has
            no BOS and one is wanted.
    """
    tokenizer = tokenizer_of(excerpt.tokenizer_directory, excerpt.trust_remote_code)
    documents = read_documents_file(excerpt.text_directory)
    bos = None
    if protocol is PerplexityProtocol.lm_eval:
        cut_text = _rolling(tokenizer, documents, excerpt)
    else:
        bos_rule = excerpt.bos if protocol.takes_bos else Bos.auto
        bos = begin_of_windows(tokenizer, excerpt.tokenizer_directory, bos_rule)
        cut = _spread if protocol is PerplexityProtocol.spread else _leading
        cut_text = cut(protocol, tokenizer, documents, excerpt, bos)
    vocabulary = Vocabulary(tokenizer, excerpt.tokenizer_directory)
    vocabulary.require([] if bos is None else [bos], "every window")
    vocabulary.require(
        (token for window in cut_text.windows for token in window.tokens), "the text"
    )
    several = len(set(cut_text.sample.window_documents)) > 1
    cut_text.sample.bos = bos is not None
    cut_text.sample.tokens_sha256 = digest(cut_text.windows)
    cut_text.sample.documents = len(set(cut_text.sample.window_documents))
    cut_text.sample.documents_available = len(documents)
    cut_text.sample.clusters = DOCUMENTS if several else WINDOWS
    return cut_text


def begin_of_windows(tokenizer: Any, directory: Path, bos: Bos) -> int | None:
    """The BOS that windows begin with; ``None`` where they begin with a token of the text.

    Args:
        tokenizer: The model's.
        directory: The model's. Families that are lost without a BOS are given it although their
            tokenizer puts none.
        bos: What is asked for.

    Raises:
        StageError: It is always wanted, and there is none.
    """
    if bos is Bos.never:
        return None
    own: int | None = tokenizer.bos_token_id
    if bos is Bos.always:
        if own is None:
            raise StageError("eval.bos=always, but the tokenizer has no BOS: set eval.bos=auto")
        return own
    return own if needs_bos(directory) else leading_bos(tokenizer)


def digest(windows: Sequence[Window]) -> str:
    """SHA-256 of all windows' tokens, and of how many of each are scored, in order."""
    content = [[window.scored, *window.tokens] for window in windows]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _spread(
    protocol: PerplexityProtocol,
    tokenizer: Any,
    documents: list[str],
    excerpt: Excerpt,
    bos: int | None,
) -> ProtocolText:
    """After a BOS every token of the text is scored, else all but the first."""
    begin = [] if bos is None else [bos]
    length = excerpt.length - len(begin)
    windows = spread_windows(tokenizer, documents, length, excerpt.count)
    sample = Sample(SPREAD, window_documents=windows.documents, left_out=windows.left_out)
    return ProtocolText(
        protocol_name(protocol, excerpt.length, bos is not None),
        [Window([*begin, *window], excerpt.length - 1) for window in windows.windows],
        sample,
    )


def _leading(
    protocol: PerplexityProtocol,
    tokenizer: Any,
    documents: list[str],
    excerpt: Excerpt,
    bos: int | None,
) -> ProtocolText:
    """Published protocols: whatever stands at the start of the text is scored."""
    cut, places = cut_leading(tokenizer, documents, excerpt.length, excerpt.count)
    halves = protocol is PerplexityProtocol.llama_cpp
    return ProtocolText(
        protocol_name(protocol, excerpt.length, bos is not None),
        [
            half_window(tokens, bos) if halves else Window(with_bos(tokens, bos), len(tokens) - 1)
            for tokens in cut
        ],
        Sample(LEADING, window_documents=places),
        degenerate=sum(map(is_degenerate, cut)),
    )


def half_window(tokens: list[int], bos: int | None) -> Window:
    """A window of ``llama-perplexity``: predictions from position ``length // 2`` on count."""
    return Window(with_bos(tokens, bos), len(tokens) - 1 - len(tokens) // 2)


def leading_bos(tokenizer: Any) -> int | None:
    """The token that the tokenizer puts before every text; ``None`` when it puts none."""
    bos: int | None = tokenizer.bos_token_id
    return bos if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else None


def prefix_token(tokenizer: Any) -> int:
    """What lm-evaluation-harness puts before a document: BOS, or EOS where there is none.

    Raises:
        StageError: The tokenizer has neither.
    """
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    raise StageError("protocol lm_eval needs a BOS or EOS token, and the tokenizer has neither")


def rolling_windows(ids: list[int], prefix: int, length: int) -> list[Window]:
    """Disjoint predictions of every token of a document, each window full if it can be.

    As ``loglikelihood_rolling`` of lm-evaluation-harness with ``context_len=1``: at most
    ``length`` tokens are seen; the last window reaches back over tokens scored before.
    """
    whole = [prefix, *ids]
    windows = []
    for start in range(0, len(ids), length):
        end = min(start + length, len(ids))
        windows.append(Window(whole[max(0, end - length) : end + 1], end - start))
    return windows


def _rolling(tokenizer: Any, documents: list[str], excerpt: Excerpt) -> ProtocolText:
    """Leading documents; the one that would exceed the tokens wanted is cut between words."""
    prefix = prefix_token(tokenizer)
    wanted = left = excerpt.length * excerpt.count
    windows: list[Window] = []
    places: list[int] = []
    words = size = 0
    for number, document in enumerate(documents):
        # With whatever the tokenizer puts around a text by itself, as lm-evaluation-harness 0.4.13.
        ids = tokenizer(document)["input_ids"]
        text = document
        if len(ids) > left:
            text = _cut_between_words(document, left / len(ids))
            ids = tokenizer(text)["input_ids"]
        if ids:
            windows += rolling_windows(ids, prefix, excerpt.length)
            places += [number] * (len(windows) - len(places))
            words += len(re.split(r"\s+", text))
            size += len(text.encode())
        left -= len(ids)
        if left <= 0 or text is not document:
            name = protocol_name(PerplexityProtocol.lm_eval, excerpt.length)
            return ProtocolText(
                name,
                windows,
                Sample(LEADING, window_documents=places),
                words,
                size,
                degenerate=sum(is_degenerate(window.tokens) for window in windows),
            )
    raise StageError(
        f"the text has {wanted - left} tokens, fewer than the {excerpt.count} x {excerpt.length} "
        "asked for: reduce the number of windows or their length"
    )


def _cut_between_words(document: str, part: float) -> str:
    """The leading ``part`` of a document, up to where a word ends."""
    cut = document[: int(len(document) * part)]
    return re.sub(r"\s+\S*$", "", cut)
