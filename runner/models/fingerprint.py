"""What identifies a model's weights, so that results of other weights are never reused."""

import json
from pathlib import Path
from typing import Any

from runner.config.model import ByteTokenizer, Model, ModelKind
from runner.models.code import ships_code
from runner.models.gguf_source import gguf_file
from runner.models.locate import locate
from runner.models.weights import weight_files
from runner.serialise import to_json
from runner.store.files import sha256_of_file, sha256_of_json, write_json_atomically

_CONVERTER_VERSION = 5
"""Raised when the same package would give other weights or another tokenizer."""
_GENERATOR_VERSION = 3
"""The same for a seed."""
_READ = (
    "*.json", "*.jinja", "*.py", "*.model", "*.tiktoken", "*.bpe", "*.spm",
    "tokenizer*", "vocab*", "merges*", "added_tokens*", "special_tokens*", "dict.txt",
    "additional_chat_templates/*", "chat_templates/*",
)  # fmt: skip
"""What a config, a tokenizer, a chat template or code can come from, besides the weights."""
_NOT_READ = (
    "*.md",
    "README*",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
    ".*",
    "*.safetensors",
    "*.gguf",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
)
"""What not even a model's own code is taken to read: documents, and weights that are not loaded."""


def fingerprint(model: Model, cache: Path) -> str:
    """Digest of a model's content (of its source, for models the runner makes itself).

    Digests of files are kept in ``cache`` and found again by size and modification time.

    Raises:
        UsageError: A local directory is not a model.
        StageError: A hub model cannot be had.
    """
    if model.kind is ModelKind.package:
        return f"package:{_CONVERTER_VERSION}:{model.sha256}"
    if model.kind is ModelKind.generated:
        made_from = {"architecture": to_json(model.architecture), "seed": model.seed}
        # Keys of models without these are what they always were.
        if model.config:
            made_from["config"] = model.config
        if model.tokenizer is not ByteTokenizer.byte_fallback:
            made_from["tokenizer"] = [model.tokenizer.value, *model.special_tokens]
        return f"generated:{_GENERATOR_VERSION}:{sha256_of_json(made_from)}"
    if file := gguf_file(model):
        return f"gguf:{_CONVERTER_VERSION}:{_digest(file, cache)}"
    directory = locate(model)
    parts: list[list[Any]] = [
        [path.relative_to(directory).as_posix(), _digest(path.resolve(), cache)]
        for path in sorted(identifying_files(directory, model.trust_remote_code))
    ]
    if ships_code(directory):
        # transformers' own class or the model's: not always the same numbers.
        parts.append(["trust_remote_code", model.trust_remote_code])
    return "model-files:" + sha256_of_json(parts)


def identifying_files(directory: Path, trust_remote_code: bool) -> set[Path]:
    """Files of a model's directory that can change a result.

    They are the weights that are loaded, and whatever a config, a tokenizer, a chat template or
    code comes from. Code that is trusted may read any file beside it, so all of those count too.
    """
    patterns = (*_READ, "*") if trust_remote_code and ships_code(directory) else _READ
    found = {path for pattern in patterns for path in directory.glob(pattern) if path.is_file()}
    read = {path for path in found if not any(map(path.match, _NOT_READ))}
    return read | set(weight_files(directory))


def _digest(path: Path, cache: Path) -> str:
    status = path.stat()
    state = sha256_of_json([str(path), status.st_size, status.st_mtime_ns])
    known = cache / "digests" / f"{state[:20]}.json"
    if known.exists():
        digest: str = json.loads(known.read_text("utf-8"))["sha256"]
        return digest
    digest = sha256_of_file(path)
    write_json_atomically(known, {"path": str(path), "sha256": digest})
    return digest
