"""Contents of a store, their dependencies, and what is unused."""

import contextlib
import fcntl
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from runner.store.index import UNREADABLE, open_index
from runner.store.objects import RESULT_FILE, Address, ObjectStore
from runner.store.records import Status, read_record

_YOUNG_SECONDS = 3600.0
"""Results younger than this may belong to a run that has not recorded them yet."""

_AT_ONCE = 16


class Retention(Enum):
    """Which results ``runner store prune`` spares though no record names their keys."""

    needed = "needed"
    """Those that a needed result was made from."""
    shared_input = "shared_input"
    """Those, and all of them while it is not known what an old needed result was made from."""
    always = "always"
    """All: other results use them without naming their keys."""


@dataclass(frozen=True)
class StoredResult:
    """A finished result on disk."""

    address: Address
    directory: Path
    size_bytes: int
    modified: float
    """Seconds since the epoch."""
    is_sealed: bool
    """Whether it is known what it was made from."""


class Inventory:
    """A store's results and the records that use them, as they were when it was made."""

    def __init__(self, store: ObjectStore, retention_of: Callable[[str], Retention]) -> None:
        """Look at what is new since somebody last looked.

        Args:
            store: Which.
            retention_of: Which results of a stage are spared, by the stage's name.
        """
        self.store = store
        self._retention_of = retention_of
        self._index = open_index(store.root)

    @cached_property
    def held(self) -> dict[Address, StoredResult]:
        """Every result."""
        return {one.address: one for one in self._select("")}

    def find(self, text: str) -> list[StoredResult]:
        """Results whose key, or stage and key, begin with ``text``; or all of a stage.

        Args:
            text: As a person typed it; nothing of it stands for other characters.
        """
        stage, slash, key = text.partition("/")
        if slash:
            return list(self._select("WHERE stage = ? AND substr(key, 1, ?) = ?",
                                     stage, len(key), key))  # fmt: skip
        return list(self._select("WHERE stage = ? OR substr(key, 1, ?) = ?",
                                 text, len(text), text))  # fmt: skip

    def sizes(self) -> list[tuple[str, int, int, float]]:
        """Each stage, how many results it has, their bytes, and when the latest was made."""
        return list(
            self._index.execute(
                "SELECT stage, count(*), sum(bytes), max(modified) FROM objects"
                " GROUP BY stage ORDER BY stage"
            )
        )

    def unreadable_records(self) -> list[Path]:
        """Records that no version could have written, or that were damaged."""
        rows = self._index.execute(
            "SELECT sweep, run FROM records WHERE status = ? ORDER BY sweep, run", (UNREADABLE,)
        )
        return [self.store.runs / sweep / run / "record.json" for sweep, run in rows]

    @cached_property
    def sweeps(self) -> dict[str, dict[str, Status]]:
        """Runs of every sweep and how they ended."""
        statuses: dict[str, dict[str, Status]] = {
            path.name: {} for path in sorted(self.store.runs.glob("*")) if path.is_dir()
        }
        rows = self._index.execute(
            "SELECT sweep, run, status FROM records WHERE status != ? ORDER BY sweep, run",
            (UNREADABLE,),
        )
        for sweep, run, told in rows:
            status = _status(told)
            if status in (Status.running, Status.interrupted):
                # Whether a process is at it is not the record's to tell.
                record = read_record(self.store.runs / sweep / run / "record.json")
                status = record.status if record is not None else status
            statuses.setdefault(sweep, {})[run] = status
        return statuses

    def made_from(self, address: Address) -> list[Address]:
        """Results that this one was made from, as far as its seal names them."""
        return self._addresses(
            "SELECT o.stage, o.key FROM objects b JOIN mentions m ON m.object = b.id"
            " JOIN objects o ON o.key = m.key WHERE b.stage = ? AND b.key = ?"
            " ORDER BY o.stage, o.key",
            address.stage, address.key,
        )  # fmt: skip

    def used_by(self, address: Address) -> list[Address]:
        """Results that were made from this one."""
        return self._addresses(
            "SELECT b.stage, b.key FROM mentions m JOIN objects b ON b.id = m.object"
            " WHERE m.key = ? ORDER BY b.stage, b.key",
            address.key,
        )

    def runs_of(self, address: Address) -> list[str]:
        """Runs whose records name this result, as ``sweep/run``."""
        rows = self._index.execute(
            "SELECT sweep, run FROM uses JOIN records ON records.id = uses.record"
            " WHERE stage = ? AND key = ? ORDER BY sweep, run",
            (address.stage, address.key),
        )
        return [f"{sweep}/{run}" for sweep, run in rows]

    def unneeded(self, without: Iterable[str] = ()) -> list[StoredResult]:
        """Results that no record needs, directly or as something it was made from.

        Args:
            without: Sweeps whose records do not count.
        """
        dropped = set(without)
        sources: dict[Address, list[Address]] = {}
        for by_stage, by_key, stage, key in self._index.execute(
            "SELECT b.stage, b.key, o.stage, o.key FROM mentions m"
            " JOIN objects o ON o.key = m.key JOIN objects b ON b.id = m.object"
        ):
            sources.setdefault(Address(by_stage, by_key), []).append(Address(stage, key))
        rows = self._index.execute(
            "SELECT DISTINCT sweep, stage, key FROM uses JOIN records ON records.id = uses.record"
        )
        roots = {Address(stage, key) for sweep, stage, key in rows if sweep not in dropped}
        needed: set[Address] = set()
        waiting = [address for address in roots if address in self.held]
        while waiting:
            address = waiting.pop()
            if address not in needed:
                needed.add(address)
                waiting.extend(sources.get(address, ()))
        # What an unsealed result was made from is not known.
        unknown = any(not self.held[address].is_sealed for address in needed)
        spared = {Retention.always, *([Retention.shared_input] if unknown else [])}
        newest = time.time() - _YOUNG_SECONDS
        return [
            one
            for address, one in self.held.items()
            if address not in needed
            and self._retention_of(address.stage) not in spared
            and _is_older(one, newest)
        ]

    def remove_all(self, several: Sequence[StoredResult]) -> Iterator[bool]:
        """``remove`` each of several; whether each is gone, one after the other."""
        # Deleting a file is waiting for the disk: many at once take a fifteenth of the time.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(self.remove, several)

    def remove(self, one: StoredResult) -> bool:
        """Delete a result, unless another process is making it anew; whether it is gone."""
        address = one.address
        lock = self.store.root / "locks" / f"{address.stage}-{address.key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            try:
                # What FileLock does, in a tenth of the time.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            # Renamed first, so that no one finds half a result.
            name = f"{address.stage}-{address.key}-{uuid.uuid4().hex[:8]}"
            grave = self.store.root / "staging" / name
            grave.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # somebody else was as quick
                one.directory.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
        return True

    def remove_sweep(self, sweep: str) -> None:
        """Delete a sweep's records and answers.

        Raises:
            OSError: They cannot be deleted.
        """
        shutil.rmtree(self.store.runs / sweep)

    def _select(self, where: str, *values: object) -> Iterator[StoredResult]:
        rows = self._index.execute(
            f"SELECT stage, key, bytes, modified, sealed FROM objects {where} ORDER BY stage, key",
            values,
        )
        for stage, key, size, modified, sealed in rows:
            address = Address(stage, key)
            yield StoredResult(address, self.store.directory(address), size, modified, bool(sealed))

    def _addresses(self, query: str, *values: object) -> list[Address]:
        return [Address(stage, key) for stage, key in self._index.execute(query, values)]


def _status(told: str) -> Status:
    try:
        return Status(told)
    except ValueError:  # of a later version
        return Status.failed


def _is_older(one: StoredResult, newest: float) -> bool:
    """Whether a result is there and was made before ``newest``; asked of the file itself."""
    try:
        return (one.directory / RESULT_FILE).stat().st_mtime < newest
    except FileNotFoundError:
        return one.modified < newest and one.directory.exists()
