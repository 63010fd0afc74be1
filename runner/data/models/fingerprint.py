"""Identity of a model's weights, so that results for other weights are never reused."""

from pathlib import Path
from typing import Any

from runner.config.schema.model import ByteTokenizer, Model, ModelKind
from runner.data.models.files import identifying_files, ships_code
from runner.data.models.gguf_source import gguf_file
from runner.data.models.locate import locate
from runner.data.models.weights import weight_files
from runner.store.checked_files import read_kept
from runner.store.files import sha256_of_file, sha256_of_json, write_json_atomically
from runner.util.progress import progress
from runner.util.redact import redact
from runner.util.serialise import to_json

_CONVERTER_VERSION = 5
"""Raised when the same package would give other weights or another tokenizer."""
_GENERATOR_VERSION = 3
"""The same for a seed."""


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
    files = identifying_files(directory, model.trust_remote_code)
    weights = weight_files(directory, pickles=model.allow_pickle)
    parts: list[list[Any]] = [
        [path.relative_to(directory).as_posix(), _digest(path.resolve(), cache)]
        for path in sorted(files.union(weights))
    ]
    if ships_code(directory):
        # transformers' own class or the model's: not always the same numbers.
        parts.append(["trust_remote_code", model.trust_remote_code])
    return "model-files:" + sha256_of_json(parts)


def _digest(path: Path, cache: Path) -> str:
    status = path.stat()
    state = sha256_of_json([str(path), status.st_size, status.st_mtime_ns])
    known = cache / "digests" / f"{state[:20]}.json"
    if cached := (read_kept(known) or {}).get("sha256"):
        return str(cached)
    megabytes = status.st_size // 1_000_000
    with progress(f"reading {path.name}, MB", megabytes) as seen:
        reported_mb = 0

        def on_read(done: int) -> None:
            nonlocal reported_mb
            seen(done // 1_000_000 - reported_mb)
            reported_mb = done // 1_000_000

        digest = sha256_of_file(path, on_read)
    write_json_atomically(known, {"path": redact(str(path)), "sha256": digest})
    return digest
