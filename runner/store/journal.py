"""Unfinished work with digests, so that a later attempt uses only whole parts.

A killed process, a full disk or a power cut leaves files that are half written.
"""

import contextlib
import hashlib
import json
from functools import cached_property
from pathlib import Path

from runner.store.files import sha256_of_file

_FILE = "digests.jsonl"


class Journal:
    """Digests of the files in one folder, a line each, beside them."""

    def __init__(self, folder: Path) -> None:
        """Of ``folder``, which is made when the first digest is noted."""
        self._folder = folder

    def note(self, name: str, sha256: str) -> None:
        """Note the digest of a file that is about to be put in its place."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._digests[name] = sha256
        with (self._folder / _FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([name, sha256]) + "\n")

    def is_sound(self, name: str) -> bool:
        """Whether a file is there, and is what was last noted of it."""
        path = self._folder / name
        try:
            return path.is_file() and self._digests.get(name) == sha256_of_file(path)
        except OSError:
            return False

    @cached_property
    def _digests(self) -> dict[str, str]:
        digests: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in (self._folder / _FILE).read_text("utf-8", "replace").splitlines():
                with contextlib.suppress(ValueError, TypeError):
                    name, sha256 = json.loads(line)
                    digests[name] = sha256
        return digests


def checked_line(content: str) -> str:
    """A line that tells its own digest."""
    return f"{_short(content)} {content}\n"


def content_of(line: str) -> str | None:
    """What ``checked_line`` was given; ``None`` where the line is not whole."""
    digest, _, content = line.rstrip("\n").partition(" ")
    return content if digest == _short(content) else None


def _short(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
