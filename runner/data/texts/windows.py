"""Windows of tokens cut from a text.

Documents are joined and cut to full length, never padded: padding tokens would enter a
calibration Hessian unmasked and distort it.
"""

import json
from pathlib import Path
from typing import Any

from runner.data.models.read_tokenizer import read_tokenizer
from runner.data.texts.documents import load_documents, plain
from runner.data.texts.spread import SEPARATOR, documents_of, encode_plain, require_enough
from runner.data.texts.vocabulary import Vocabulary

_CUT_TOKENS = 64
_LOST_WITHOUT_BOS = "gemma"
"""How the ``model_type`` of families begins that compute something else without a leading BOS.

Gemma 3 270M was measured to have a perplexity of 52 without and 23 with it. lm-evaluation-harness
puts it before their texts for that reason, whatever is asked.
"""


def tokenizer_of(directory: Path, trust_remote_code: bool) -> Any:
    """A model's tokenizer, without its limit on a text's length.

    Raises:
        StageError: See ``read_tokenizer``.
    """
    tokenizer = read_tokenizer(directory, trust_remote_code)
    # The text is longer than the model's context on purpose; it is cut right after.
    tokenizer.model_max_length = 10**12
    return tokenizer


def read_documents_file(text_directory: Path) -> list[str]:
    """The documents of a text as running text."""
    return [plain(document) for document in load_documents(text_directory)]


def encode(tokenizer: Any, documents: list[str]) -> list[int]:
    """Tokens of documents joined by blank lines, tokenized once."""
    ids: list[int] = tokenizer(SEPARATOR.join(documents))["input_ids"]
    return ids


def required_bos(tokenizer: Any, directory: Path) -> int | None:
    """The BOS that has to stand before whatever a model sees; ``None`` where none has to.

    Args:
        tokenizer: The model's.
        directory: The model's, for its config.json.
    """
    return tokenizer.bos_token_id if needs_bos(directory) else None


def needs_bos(directory: Path) -> bool:
    """Whether a model is of a family that is lost without a leading BOS."""
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    kind = isinstance(config, dict) and config.get("model_type")
    return str(kind or "").startswith(_LOST_WITHOUT_BOS)


def bos_determinant(directory: Path) -> dict[str, bool]:
    """What a result's key says of the BOS; nothing of models that need none."""
    return {"leading_bos": True} if needs_bos(directory) else {}


def with_bos(window: list[int], bos: int | None) -> list[int]:
    """The window with BOS in place of its first token, as ``llama-perplexity`` puts it."""
    return window if bos is None else [bos, *window[1:]]


def leading_windows(
    text_directory: Path,
    tokenizer_directory: Path,
    length: int,
    count: int,
    trust_remote_code: bool,
) -> list[list[int]]:
    """The first ``count`` disjoint windows of a text: see ``cut_leading``.

    Raises:
        StageError: The text is too short, or the model has no embedding for a token of it.
    """
    tokenizer = tokenizer_of(tokenizer_directory, trust_remote_code)
    windows, _ = cut_leading(tokenizer, read_documents_file(text_directory), length, count)
    ids = (token for window in windows for token in window)
    Vocabulary(tokenizer, tokenizer_directory).require(ids, "the text")
    return windows


def cut_leading(
    tokenizer: Any, documents: list[str], length: int, count: int
) -> tuple[list[list[int]], list[int]]:
    """The first ``count`` disjoint windows, and the numbers of the documents they begin in.

    Only as many documents are tokenized as are needed, and some more: where a text is cut
    off, its last tokens may differ from those of the whole.

    Raises:
        StageError: The text is too short.
    """
    needed = length * count + _CUT_TOKENS
    taken = 1
    while True:
        ids = encode(tokenizer, documents[:taken])
        if taken >= len(documents) or len(ids) >= needed:
            break
        taken = min(len(documents), taken * 2)
    require_enough(len(ids), length, count)
    begins = range(0, count * length, length)
    # Joined texts have nearly as many tokens as their parts.
    starts = [0]
    for document in documents[: taken - 1]:
        starts.append(starts[-1] + len(encode_plain(tokenizer, document + SEPARATOR)))
    return [ids[begin : begin + length] for begin in begins], documents_of(begins, starts)
