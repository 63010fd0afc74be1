"""Whether a model has an embedding for every token that its tokenizer produces."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.data.models.tensors import matrix_shapes
from runner.errors import StageError

_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings", "embeddings")
"""Last parts of what families call the table of token embeddings (Llama, GPT-2, GPT-NeoX, Falcon,
Mistral, Mamba)."""


def embedding_rows(directory: Path) -> int | None:
    """Rows of a model's token embedding: ids below it exist.

    As the weights' headers say; where none of them is such a table (packed, or called
    otherwise), as ``config.json`` says; ``None`` where it says nothing either.
    """
    shapes = matrix_shapes(directory)
    for name in _EMBEDDINGS:
        for layer, (rows, _) in shapes.items():
            if layer.rpartition(".")[2] == name:
                return rows
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    size = (config.get("text_config") or config).get("vocab_size")
    return size if isinstance(size, int) else None


class Vocabulary:
    """The tokens that a model knows."""

    def __init__(self, tokenizer: Any, directory: Path) -> None:
        """Look up the size of the embedding.

        Args:
            tokenizer: Whose ids are judged. It may have more tokens than the model, as long as
                those never occur.
            directory: The model's.
        """
        self._tokenizer = tokenizer
        self._rows = embedding_rows(directory)

    def require(self, ids: Iterable[int], where: str) -> None:
        """See that the model has all tokens, before it is loaded and an index is out of range.

        Args:
            ids: Of any number of windows.
            where: What they were made of, for the message: ``text bible``.

        Raises:
            StageError: The embedding has no row for one of them.
        """
        if self._rows is None:
            return
        worst = max(ids, default=-1)
        if worst < self._rows:
            return
        token = self._tokenizer.convert_ids_to_tokens(worst)
        raise StageError(
            f"{where} has token {token!r} with id {worst}, but the model's embedding has "
            f"{self._rows} rows (ids 0 to {self._rows - 1}): the tokenizer has tokens that the "
            "model does not have; use the tokenizer it was trained with, or call "
            "model.resize_token_embeddings(len(tokenizer)), train and save it"
        )
