"""Atomic file writes and content digests."""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any


def write_text_atomically(path: Path, text: str) -> None:
    """Write beside ``path`` and rename into it, so that a reader sees all or nothing."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """As ``write_text_atomically``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json_atomically(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_text_atomically(path, json.dumps(content, indent=2) + "\n")


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_json(content: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, independent of the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
