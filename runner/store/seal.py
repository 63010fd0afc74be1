"""What lies beside a finished result: what it was made from, and the digests of its files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.store.files import sha256_of_file, write_json_atomically

SEAL_FILE = "seal.json"


@dataclass(frozen=True)
class Seal:
    """Content of ``seal.json``."""

    determinants: dict[str, Any]
    """JSON values that determine the result; keys of other results among them."""
    files: dict[str, str]
    """SHA-256 by path below the result's directory."""

    def mentions(self) -> set[str]:
        """All strings in the determinants: the keys of what the result was made from are there."""
        return set(_strings(self.determinants))


def write_seal(directory: Path, determinants: dict[str, Any]) -> None:
    """Seal a result that is about to be finished."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    files = {path.relative_to(directory).as_posix(): sha256_of_file(path) for path in paths}
    write_json_atomically(directory / SEAL_FILE, {"determinants": determinants, "files": files})


def read_seal(directory: Path) -> Seal | None:
    """The seal of a result; ``None`` for one that was made before there were seals."""
    try:
        return Seal(**json.loads((directory / SEAL_FILE).read_text("utf-8")))
    except FileNotFoundError:
        return None


def faults(directory: Path) -> list[str]:
    """What is wrong with a result's files; empty when they are as they were written."""
    try:
        seal = read_seal(directory)
    except (ValueError, TypeError):
        return [f"{SEAL_FILE} cannot be read"]
    if seal is None:
        return []
    found = []
    for name, digest in seal.files.items():
        path = directory / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif sha256_of_file(path) != digest:
            found.append(f"{name} has changed")
    return found


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _strings(part)]
