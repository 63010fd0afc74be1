"""What a store holds, what depends on what, and what nobody needs."""

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from runner.store.objects import RESULT_FILE, Address, ObjectStore
from runner.store.records import RunRecord, read_records
from runner.store.seal import Seal, read_seal

ALWAYS_KEPT = frozenset({"model", "hardware"})
"""Stages whose results others use without naming their keys."""
_SHARED_INPUTS = frozenset({"text", "gguf"})
_YOUNG_SECONDS = 3600.0
"""Results younger than this may belong to a run that has not recorded them yet."""


@dataclass(frozen=True)
class Held:
    """A finished result on disk."""

    address: Address
    directory: Path
    size_bytes: int
    modified: float
    """Seconds since the epoch."""


class Inventory:
    """A store's results and the records that use them, as they were when it was made."""

    def __init__(self, store: ObjectStore) -> None:
        """Look at everything."""
        self.store = store
        self.held = {one.address: one for one in _held(store.root)}
        self.sweeps: dict[str, list[RunRecord]] = {
            path.name: read_records(store.runs, path.name)
            for path in sorted(store.runs.glob("*"))
            if path.is_dir()
        }

    def find(self, text: str) -> list[Held]:
        """Results whose key, or stage and key, begin with ``text``."""
        return [
            one
            for address, one in self.held.items()
            if address.key.startswith(text) or str(address).startswith(text)
        ]

    def made_from(self, address: Address) -> list[Address]:
        """Results that this one was made from, as far as its seal names them."""
        seal = self._seal(address)
        mentioned = seal.mentions() if seal else set()
        return [other for other in self.held if other.key in mentioned and other != address]

    def used_by(self, address: Address) -> list[Address]:
        """Results that were made from this one."""
        return [other for other in self.held if address in self.made_from(other)]

    def runs_of(self, address: Address) -> list[str]:
        """Runs whose records name this result, as ``sweep/run``."""
        return [
            f"{sweep}/{record.run}"
            for sweep, records in self.sweeps.items()
            for record in records
            if any((s.stage, s.key) == (address.stage, address.key) for s in record.stages)
        ]

    def unneeded(self, without: Iterable[str] = ()) -> list[Held]:
        """Results that no record needs, directly or as something it was made from.

        Args:
            without: Sweeps whose records do not count.
        """
        dropped = set(without)
        kept_sweeps = [records for sweep, records in self.sweeps.items() if sweep not in dropped]
        roots = {
            Address(stage.stage, stage.key)
            for records in kept_sweeps
            for record in records
            for stage in record.stages
        }
        needed: set[Address] = set()
        waiting = [address for address in roots if address in self.held]
        while waiting:
            address = waiting.pop()
            if address not in needed:
                needed.add(address)
                waiting.extend(self.made_from(address))
        # What an unsealed result was made from is not known.
        unknown = any(self._seal(address) is None for address in needed)
        spared = ALWAYS_KEPT | (_SHARED_INPUTS if unknown else frozenset())
        newest = time.time() - _YOUNG_SECONDS
        return [
            one
            for address, one in self.held.items()
            if address not in needed and address.stage not in spared and one.modified < newest
        ]

    def remove(self, one: Held) -> bool:
        """Delete a result, unless another process is making it anew; whether it is gone."""
        address = one.address
        lock = self.store.root / "locks" / f"{address.stage}-{address.key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Timeout), FileLock(lock, timeout=0):
            # Renamed first, so that no one finds half a result.
            name = f"{address.stage}-{address.key}-{uuid.uuid4().hex[:8]}"
            grave = self.store.root / "staging" / name
            grave.parent.mkdir(parents=True, exist_ok=True)
            one.directory.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
            self.held.pop(address, None)
            return True
        return False

    def remove_sweep(self, sweep: str) -> None:
        """Delete a sweep's records and answers."""
        shutil.rmtree(self.store.runs / sweep)
        self.sweeps.pop(sweep, None)

    def _seal(self, address: Address) -> Seal | None:
        try:
            return read_seal(self.held[address].directory)
        except (ValueError, TypeError):
            return None


def _held(root: Path) -> list[Held]:
    found = []
    for path in sorted((root / "objects").glob(f"*/*/{RESULT_FILE}")):
        directory = path.parent
        size = sum(file.lstat().st_size for file in directory.rglob("*") if file.is_file())
        address = Address(directory.parent.name, directory.name)
        found.append(Held(address, directory, size, path.stat().st_mtime))
    return found
