"""Windows of a text as each perplexity protocol cuts them.

A model sees all tokens of a window but the last and predicts all but the first. A protocol says
which windows there are and how many of each one's last predictions count.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.eval import PerplexityProtocol
from runner.errors import StageError
from runner.texts.vocabulary import Vocabulary
from runner.texts.windows import leading_windows, read_documents_file, tokenizer_of


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


@dataclass(frozen=True)
class ProtocolText:
    """A text cut up as a protocol demands."""

    name: str
    """Protocol and context length, as in the metric's name."""
    windows: list[Window]
    words: int | None = None
    """Of the original text, split at whitespace (protocol lm_eval alone)."""
    bytes: int | None = None
    """Of the original text in UTF-8 (protocol lm_eval alone)."""


def protocol_name(protocol: PerplexityProtocol, context_length: int) -> str:
    """A protocol's part of a metric's name, such as ``gptq_2048``."""
    return f"{protocol.value}_{context_length}"


def protocol_text(protocol: PerplexityProtocol, excerpt: Excerpt) -> ProtocolText:
    """Cut the leading part of a text, about ``count`` times ``length`` tokens.

    Raises:
        StageError: The text is too short, or the model has no embedding for a token of it.
    """
    name = protocol_name(protocol, excerpt.length)
    if protocol is PerplexityProtocol.lm_eval:
        return _rolling(name, excerpt)
    windows = leading_windows(
        excerpt.text_directory,
        excerpt.tokenizer_directory,
        excerpt.length,
        excerpt.count,
        excerpt.trust_remote_code,
    )
    if protocol is PerplexityProtocol.gptq:
        return ProtocolText(name, [Window(tokens, excerpt.length - 1) for tokens in windows])
    tokenizer = tokenizer_of(excerpt.tokenizer_directory, excerpt.trust_remote_code)
    bos = leading_bos(tokenizer)
    if bos is not None:
        Vocabulary(tokenizer, excerpt.tokenizer_directory).require([bos], "every window")
    return ProtocolText(name, [half_window(tokens, bos) for tokens in windows])


def half_window(tokens: list[int], bos: int | None) -> Window:
    """A window of ``llama-perplexity``: predictions from position ``length // 2`` on count."""
    first = tokens[0] if bos is None else bos
    return Window([first, *tokens[1:]], len(tokens) - 1 - len(tokens) // 2)


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


def _rolling(name: str, excerpt: Excerpt) -> ProtocolText:
    """Leading documents; the one that would exceed the tokens wanted is cut between words."""
    tokenizer = tokenizer_of(excerpt.tokenizer_directory, excerpt.trust_remote_code)
    prefix = prefix_token(tokenizer)
    wanted = left = excerpt.length * excerpt.count
    windows: list[Window] = []
    words = size = 0
    for document in read_documents_file(excerpt.text_directory):
        ids = _encode(tokenizer, document)
        text = document
        if len(ids) > left:
            text = _cut_between_words(document, left / len(ids))
            ids = _encode(tokenizer, text)
        if ids:
            windows += rolling_windows(ids, prefix, excerpt.length)
            words += len(re.split(r"\s+", text))
            size += len(text.encode())
        left -= len(ids)
        if left <= 0 or text is not document:
            ids = [token for window in windows for token in window.tokens]
            Vocabulary(tokenizer, excerpt.tokenizer_directory).require(ids, "the text")
            return ProtocolText(name, windows, words, size)
    raise StageError(
        f"the text has {wanted - left} tokens, fewer than the {excerpt.count} x "
        f"{excerpt.length} asked for: lower the number of windows or their length"
    )


def _encode(tokenizer: Any, text: str) -> list[int]:
    # With whatever the tokenizer puts around a text by itself, as lm-evaluation-harness 0.4.13.
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def _cut_between_words(document: str, part: float) -> str:
    """The leading ``part`` of a document, up to where a word ends."""
    cut = document[: int(len(document) * part)]
    return re.sub(r"\s+\S*$", "", cut)
