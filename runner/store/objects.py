"""Finished stage results, each a directory named by the hash of its inputs.

Layout below the store's root::

    objects/<stage>/<key>/result.json   what the stage found, and files it wrote beside it
    damaged/<stage>-<key>-<n>/          what was found not to be as it was written; never read
    staging/                            unfinished work; never read
    partial/<stage>-<key>/              finished units of unfinished work; read by the next attempt
    locks/                              one lock file a key
    runs/<sweep>/<run>/record.json      see runner.store.records
    cache/                              downloads and measurements of this machine
"""

import contextlib
import itertools
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from runner.store.files import sha256_of_json, write_json_atomically
from runner.store.locks import held
from runner.store.provenance import SEAL_FILE, Check, Told, faults

RESULT_FILE = "result.json"
_PARTIAL_SECONDS = 30 * 24 * 3600
"""After so long nobody is expected to go on with unfinished work."""


@dataclass(frozen=True)
class Address:
    """Place of one result: its stage and the key of what determines it."""

    stage: str
    key: str

    @classmethod
    def of(cls, stage: str, determinants: dict[str, Any]) -> "Address":
        """Address of the result that ``determinants`` (JSON values) determine."""
        return cls(stage, sha256_of_json(determinants)[:20])

    def __str__(self) -> str:
        return f"{self.stage}/{self.key}"


class ObjectStore:
    """Results on a file system; what exists is whole."""

    def __init__(self, root: Path) -> None:
        """Use ``root``; nothing is created before it is needed."""
        self.root = root
        self.cache = root / "cache"
        self.runs = root / "runs"
        self._checks: dict[Address, Check] = {}
        """Last checks of results that were asked for before."""

    def directory(self, address: Address) -> Path:
        """Where the result lies once it is finished."""
        return self.root / "objects" / address.stage / address.key

    def partial(self, address: Address) -> Path:
        """Where a stage keeps what it has finished, until its result is. It may not exist."""
        return self.root / "partial" / f"{address.stage}-{address.key}"

    def read(self, address: Address) -> dict[str, Any] | None:
        """Content of a finished result's JSON file, or ``None`` when there is none."""
        try:
            content: dict[str, Any] = json.loads(
                (self.directory(address) / RESULT_FILE).read_text("utf-8")
            )
        except FileNotFoundError:
            return None
        return content

    def holds(self, address: Address) -> bool:
        """Whether there is such a result, sound or not."""
        return self.directory(address).is_dir()

    def is_as_checked(self, address: Address) -> bool:
        """Whether a result's files have the sizes and times with which they were last known sound.

        Digests need not be compared then. What was made before there were seals cannot be known.
        """
        place = self.directory(address)
        check = self._checks.get(address)
        if check is None or not check.holds():
            check = Check.of(place)
            if check is None or not check.holds():
                return self.holds(address) and not (place / SEAL_FILE).exists()
        self._checks[address] = check
        return True

    def faults(self, address: Address, told: Told = lambda done, total: None) -> list[str]:
        """What is wrong with a result, by its digests; empty when it can be used.

        Args:
            address: Of a result that is there.
            told: Is told how many bytes of how many were compared.
        """
        self._checks.pop(address, None)
        problems = faults(self.directory(address), told)
        if not problems:
            try:
                content = self.read(address)
            except (OSError, ValueError, RecursionError):
                return [f"{RESULT_FILE} cannot be read"]
            if content is None:
                return [f"{RESULT_FILE} is missing"]
            if not isinstance(content, dict) or not isinstance(content.get("result"), dict):
                return [f"{RESULT_FILE} contains no result"]
        return problems

    def set_aside(self, address: Address) -> Path:
        """Move a damaged result to where nothing reads it; returns that folder.

        Raises:
            OSError: The store cannot be written to.
        """
        aside = self.root / "damaged"
        aside.mkdir(parents=True, exist_ok=True)
        name = f"{address.stage}-{address.key}"
        taken = {path.name for path in aside.glob(f"{name}*")}
        count = next(n for n in itertools.count(1) if f"{name}-{n}" not in taken)
        place = aside / f"{name}-{count}"
        self.directory(address).rename(place)
        self._checks.pop(address, None)
        return place

    def clear_leftovers(self) -> None:
        """Delete unfinished work of processes that were killed: that whose lock is free."""
        for work in (self.root / "staging").glob("*-*-*"):
            stage, key, _ = work.name.split("-", 2)
            address = Address(stage, key)
            # A store that is only read from keeps them.
            with contextlib.suppress(Timeout, OSError), FileLock(self._lock(address), timeout=0):
                shutil.rmtree(work, ignore_errors=True)
        for kept in (self.root / "partial").glob("*-*"):
            address = Address(*kept.name.split("-", 1))
            with contextlib.suppress(Timeout, OSError):
                old = time.time() - kept.stat().st_mtime > _PARTIAL_SECONDS
                if old or self.directory(address).exists():
                    with FileLock(self._lock(address), timeout=0):
                        shutil.rmtree(kept, ignore_errors=True)

    def _lock(self, address: Address) -> Path:
        path = self.root / "locks" / f"{address.stage}-{address.key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def locked(self, address: Address, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the key's lock. The operating system frees it when its holder dies.

        ``on_wait`` is called once when another process has it.
        """
        with held(self._lock(address), on_wait):
            yield

    @contextlib.contextmanager
    def writing(self, address: Address) -> Iterator[Path]:
        """An empty directory that becomes the result if the block ends without an error.

        The caller holds the key's lock, so leftovers of the same key belong to the dead. What
        earlier attempts kept in ``partial`` goes when the result is there, and stays when not.
        """
        partial = self.partial(address)
        staging = self.root / "staging"
        staging.mkdir(parents=True, exist_ok=True)
        for leftover in staging.glob(f"{address.stage}-{address.key}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        work = staging / f"{address.stage}-{address.key}-{uuid.uuid4().hex[:8]}"
        work.mkdir()
        try:
            yield work
            place = self.directory(address)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                old = work.with_name(f"{work.name}-old")
                place.rename(old)
                work.rename(place)
                shutil.rmtree(old, ignore_errors=True)
            else:
                work.rename(place)
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            with contextlib.suppress(OSError):
                partial.rmdir()  # if nothing was kept


def add_finding(directory: Path, stage: str) -> None:
    """Move what a second stage found in ``<stage>.json`` into the unfinished result's field."""
    path, beside = directory / RESULT_FILE, directory / f"{stage}.json"
    content = json.loads(path.read_text("utf-8"))
    found = json.loads(beside.read_text("utf-8"))
    content["result"][stage] = found["result"]
    took = found["resources"]["processor_seconds"]
    content["resources"]["inspection_processor_seconds"] = took
    write_json_atomically(path, content)
    beside.unlink()
