"""What identifies a model's weights, so that results of other weights are never reused."""

import json
from pathlib import Path

from runner.config.model import Model, ModelKind
from runner.models.locate import locate
from runner.serialise import to_json
from runner.store.files import sha256_of_file, sha256_of_json, write_json_atomically

_CONVERTER_VERSION = 3
"""Raised when the same package would give other weights or another tokenizer."""
_GENERATOR_VERSION = 3
"""The same for a seed."""
_IDENTIFYING = ("config.json", "*.safetensors", "tokenizer*", "*.model", "vocab.*", "merges.txt")


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
        return f"generated:{_GENERATOR_VERSION}:{sha256_of_json(made_from)}"
    directory = locate(model)
    files = sorted({path for pattern in _IDENTIFYING for path in directory.glob(pattern)})
    return "files:" + sha256_of_json([[p.name, _digest(p.resolve(), cache)] for p in files])


def _digest(path: Path, cache: Path) -> str:
    status = path.stat()
    state = sha256_of_json([str(path), status.st_size, status.st_mtime_ns])
    known = cache / "digests" / f"{state[:20]}.json"
    if known.exists():
        digest: str = json.loads(known.read_text())["sha256"]
        return digest
    digest = sha256_of_file(path)
    write_json_atomically(known, {"path": str(path), "sha256": digest})
    return digest
