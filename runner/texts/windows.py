"""Windows of tokens cut from a text.

Documents are joined and cut to full length, never padded: padding tokens would enter a
calibration Hessian unmasked and distort it.
"""

import json
import random
from pathlib import Path
from typing import Any

from runner.errors import StageError

DOCUMENTS_FILE = "documents.jsonl"


def write_documents(directory: Path, documents: list[str]) -> None:
    """Store documents as one JSON string a line."""
    with (directory / DOCUMENTS_FILE).open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(document) + "\n" for document in documents)


def token_ids(text_directory: Path, model_directory: Path, trust_remote_code: bool) -> list[int]:
    """Tokens of a whole text: its documents joined by blank lines, tokenized once."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        model_directory, trust_remote_code=trust_remote_code
    )
    # The text is longer than the model's context on purpose; it is cut right after.
    tokenizer.model_max_length = 10**12
    with (text_directory / DOCUMENTS_FILE).open(encoding="utf-8") as stream:
        documents = [json.loads(line) for line in stream]
    ids: list[int] = tokenizer("\n\n".join(documents))["input_ids"]
    return ids


def leading_windows(ids: list[int], length: int, count: int) -> list[list[int]]:
    """The first ``count`` disjoint windows.

    Raises:
        StageError: The text is too short.
    """
    _require(ids, length, count)
    return [ids[i * length : (i + 1) * length] for i in range(count)]


def sampled_windows(ids: list[int], length: int, count: int, seed: int) -> list[list[int]]:
    """``count`` disjoint windows drawn from the whole text.

    Raises:
        StageError: The text is too short.
    """
    available = _require(ids, length, count)
    chosen = random.Random(seed).sample(range(available), count)
    return [ids[i * length : (i + 1) * length] for i in chosen]


def _require(ids: list[int], length: int, count: int) -> int:
    available = len(ids) // length
    if available < count:
        raise StageError(
            f"the text has {len(ids)} tokens, enough for {available} windows of {length}, "
            f"but {count} are asked for: lower the number of windows or their length"
        )
    return available
