"""A checkpoint that is one GGUF file."""

from pathlib import Path
from typing import Any

from runner.errors import StageError

MODEL_CONFIG = "model_config.json"
"""Name of the copy of the model's config.json beside a GGUF file: one that makes no loader take the
folder for a model in Hugging Face layout."""


def only_gguf(directory: Path) -> Path:
    """The GGUF file of a checkpoint.

    Raises:
        StageError: There is not exactly one.
    """
    files = sorted(directory.glob("*.gguf"))
    if len(files) != 1:
        raise StageError(f"{directory} contains {len(files)} .gguf files, not one")
    return files[0]


def read_gguf(path: Path) -> Any:
    """A ``gguf.GGUFReader`` of a file."""
    import gguf

    return gguf.GGUFReader(path)
