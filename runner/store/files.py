"""Atomic file writes and content digests."""

import hashlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 16 * 1024 * 1024
_DIGEST = b',\n  "sha256": "'


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


def write_checked_json(path: Path, content: dict[str, Any]) -> None:
    """As ``write_json_atomically``, with a last field that is the digest of what stands before."""
    body = json.dumps(content, indent=2).encode()
    write_bytes_atomically(path, body[:-2] + _DIGEST + _digest(body).encode() + b'"\n}\n')


def is_altered(content: bytes) -> bool:
    """Whether a file of ``write_checked_json`` is not what was written.

    One without such a field, or in another layout, is of an earlier version or of somebody else.
    """
    body, field, digest = content.rpartition(_DIGEST)
    return bool(field) and _digest(body + b"\n}").encode() + b'"\n}\n' != digest


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path, told: Callable[[int], None] = lambda done: None) -> str:
    """Hexadecimal SHA-256 of a file's content; ``told`` of the bytes read as it goes on."""
    found, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            found.update(chunk)
            done += len(chunk)
            told(done)
    return found.hexdigest()


def sha256_of_json(content: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, independent of the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
