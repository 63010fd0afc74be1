"""Provenance beside a finished result: its inputs, and the digests of its files."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.store.files import sha256_of_file, write_json_atomically

SEAL_FILE = "seal.json"
CHECK_FILE = "checked.json"
"""Beside the seal of a result whose files have other times than it tells: see ``Check``."""
_DAY_SECONDS = 86_400.0
_PROOFS = (SEAL_FILE, CHECK_FILE)
_NOT_READ = (".md", ".pyc")

State = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds since the epoch."""
Told = Callable[[int, int], None]
"""Is told how many bytes of how many were compared."""


@dataclass(frozen=True)
class Seal:
    """Content of ``seal.json``."""

    determinants: dict[str, Any]
    """JSON values that determine the result; keys of other results among them."""
    files: dict[str, str]
    """SHA-256 by path below the result's directory."""
    states: dict[str, list[int]] = field(default_factory=dict)
    """``State`` of each file when it was sealed; none in older seals."""

    def mentions(self) -> set[str]:
        """All strings in the determinants: the keys of what the result was made from are there."""
        return set(_strings(self.determinants))

    @property
    def size_bytes(self) -> int | None:
        """Of all files; ``None`` where an older seal does not tell."""
        if self.states.keys() != self.files.keys():
            return None
        return sum(size for size, _ in self.states.values())


@dataclass(frozen=True)
class Check:
    """When a result's files were last known to be what their digests say, and their states then.

    Digests of gigabytes take minutes, states no time worth naming: while states are what they
    were, the digests are taken to be so too, for a day. The time is that of the file that tells
    the states: the seal, or ``checked.json`` where a copy of the store has given them others.
    """

    file: Path
    states: dict[str, State]

    @classmethod
    def of(cls, directory: Path) -> "Check | None":
        """The last one of a result; ``None`` where there was none, or it cannot be read."""
        for name in (CHECK_FILE, SEAL_FILE):
            try:
                recorded = _parsed(directory / name)["states"]
                states = {path: (state[0], state[1]) for path, state in recorded.items()}
                return cls(directory / name, states)
            except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
                continue
        return None

    def holds(self) -> bool:
        """Whether it is of today, and no file of the result has another state since."""
        try:
            age = time.time() - self.file.stat().st_mtime
            return 0 <= age < _DAY_SECONDS and self.states == states(self.file.parent)
        except OSError:
            return False


def write_seal(directory: Path, determinants: dict[str, Any]) -> None:
    """Seal a result that is about to be finished."""
    now = states(directory)
    files = {name: sha256_of_file(directory / name) for name in now}
    content = {"determinants": determinants, "files": files, "states": now}
    write_json_atomically(directory / SEAL_FILE, content)


def read_seal(directory: Path) -> Seal | None:
    """The seal of a result; ``None`` for one that was made before there were seals.

    Raises:
        ValueError, TypeError: Its file holds none.
    """
    try:
        content = _parsed(directory / SEAL_FILE)
    except FileNotFoundError:
        return None
    seal = Seal(**content)
    if not all(isinstance(one, dict) for one in (seal.determinants, seal.files, seal.states)):
        raise TypeError(f"{SEAL_FILE} is not valid")
    return seal


def faults(directory: Path, told: Told = lambda done, total: None) -> list[str]:
    """What is wrong with a result's files by their digests; empty when they are as they were.

    What is as it was is noted, where that can be written, so that nobody compares it again today.
    """
    try:
        seal = read_seal(directory)
    except (OSError, ValueError, TypeError):
        return [f"{SEAL_FILE} cannot be read"]
    if seal is None:
        return []
    before = states(directory)
    problems = [f"{name} is missing" for name in seal.files if name not in before]
    added = sorted(name for name in before.keys() - seal.files if not _is_harmless(name))
    problems += [f"{name} was added" for name in added]
    total = sum(before[name][0] for name in seal.files if name in before)
    done = 0

    def compared(part: int) -> None:
        told(done + part, total)

    for name, digest in seal.files.items():
        if name not in before:
            continue
        size = seal.states.get(name, [before[name][0]])[0]
        try:
            # A file of another size needs no reading.
            if size != before[name][0] or sha256_of_file(directory / name, compared) != digest:
                problems.append(f"{name} has changed")
        except OSError as error:
            problems.append(f"{name} cannot be read ({os.strerror(error.errno or 0).lower()})")
        done += before[name][0]
        told(done, total)
    if not problems:
        _note(directory, before)
    return problems


def states(directory: Path) -> dict[str, State]:
    """State of every file of a result, by its path below; without what proves them."""
    return dict(_walked(directory, ""))


def _walked(folder: Path | str, prefix: str) -> Iterator[tuple[str, State]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_dir():
                yield from _walked(entry.path, f"{prefix}{entry.name}/")
            elif (prefix or not _proves(entry.name)) and entry.is_file():
                status = entry.stat()
                yield f"{prefix}{entry.name}", (status.st_size, status.st_mtime_ns)


def _proves(name: str) -> bool:
    return name in _PROOFS or any(name.startswith(f".{proof}.") for proof in _PROOFS)


def _is_harmless(name: str) -> bool:
    """Whether no library reads a model from a file that was added: a note, what NFS keeps."""
    *folders, last = name.split("/")
    return last.endswith(_NOT_READ) or any(part.startswith(".") for part in (*folders, last))


def _note(directory: Path, now: dict[str, State]) -> None:
    known = Check.of(directory)
    with contextlib.suppress(OSError):  # a store that is only read from
        if known is not None and known.states == now:
            os.utime(known.file)
        else:
            write_json_atomically(directory / CHECK_FILE, {"states": now})


def _parsed(path: Path) -> Any:
    # Twice as fast as Python's own, and a store holds tens of thousands.
    from pydantic_core import from_json

    return from_json(path.read_bytes())


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _strings(part)]
