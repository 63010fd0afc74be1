"""Index of a store's folders, so that a query does not read them all.

It is never the truth: every use compares it with the folders, and reads anew what is new. The
file ``cache/index.sqlite`` is only ever replaced whole, so no process waits for another and no
shared file system has to lock it. Where it is broken it is made anew, and where it cannot be
written it is made in memory.
"""

import contextlib
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.store.files import is_altered
from runner.store.objects import RESULT_FILE
from runner.store.provenance import SEAL_FILE, read_seal, states
from runner.util.progress import told

INDEX_FILE = "index.sqlite"
UNREADABLE = ""
"""Status of a record that holds none."""
_VERSION = 1
_KEY = re.compile(r"[0-9a-f]{20}")
_SCHEMA = f"""
PRAGMA user_version = {_VERSION};
CREATE TABLE objects (id INTEGER PRIMARY KEY, stage TEXT, key TEXT, inode INTEGER, bytes INTEGER,
                      modified REAL, sealed INTEGER, UNIQUE (stage, key));
CREATE INDEX objects_by_key ON objects (key);
CREATE TABLE mentions (object INTEGER, key TEXT, PRIMARY KEY (object, key)) WITHOUT ROWID;
CREATE INDEX mentions_by_key ON mentions (key);
CREATE TABLE records (id INTEGER PRIMARY KEY, sweep TEXT, run TEXT, state TEXT, status TEXT,
                      UNIQUE (sweep, run));
CREATE TABLE uses (record INTEGER, stage TEXT, key TEXT, PRIMARY KEY (record, stage, key))
    WITHOUT ROWID;
CREATE INDEX uses_by_key ON uses (key, stage);
"""
_OLD_SECONDS = 3600.0
"""A copy of the index that is older was left by a process that is gone."""


@dataclass(frozen=True)
class _Object:
    stage: str
    key: str
    inode: int


def open_index(root: Path) -> sqlite3.Connection:
    """The index of the store below ``root``, as its folders are now.

    Args:
        root: The store's.
    """
    path = root / "cache" / INDEX_FILE
    try:
        return _brought_up_to_date(root, path, _opened(path))
    except (sqlite3.Error, MemoryError):  # broken; sqlite takes an empty one for want of memory
        return _brought_up_to_date(root, path, None)


def _brought_up_to_date(
    root: Path, kept: Path, opened: sqlite3.Connection | None
) -> sqlite3.Connection:
    known = {} if opened is None else _known_objects(opened)
    filed = {} if opened is None else _known_records(opened)
    objects = {(one.stage, one.key): one for one in _objects(root)}
    records = dict(_records(root / "runs"))
    fresh = [one for one in objects.values() if known.get((one.stage, one.key)) != one.inode]
    changed = [place for place, state in records.items() if filed.get(place) != state]
    gone = [place for place in known if place not in objects]
    dropped = [place for place in filed if place not in records]
    if opened is not None and not (fresh or changed or gone or dropped):
        return opened
    index = opened or sqlite3.connect(":memory:", isolation_level=None)
    if opened is None:
        index.executescript(_SCHEMA)
    index.execute("BEGIN")
    _forget(index, gone, dropped)
    _add_objects(index, root, fresh)
    _add_records(index, root / "runs", {place: records[place] for place in changed})
    index.execute("COMMIT")
    _keep(index, kept)
    return index


def _opened(kept: Path) -> sqlite3.Connection | None:
    try:
        content = kept.read_bytes()
    except OSError:
        return None
    # In memory, of a few tens of megabytes: what others replace meanwhile does not matter.
    index = sqlite3.connect(":memory:", isolation_level=None)
    index.deserialize(content)
    sound = index.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    if not sound or index.execute("PRAGMA user_version").fetchone() != (_VERSION,):
        index.close()
        return None
    return index


def _keep(made: sqlite3.Connection, kept: Path) -> None:
    """Replace the file; a store that is only read from does without."""
    beside = kept.with_name(f".{INDEX_FILE}.{uuid.uuid4().hex[:8]}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        for left in kept.parent.glob(f".{INDEX_FILE}.*"):
            if time.time() - left.stat().st_mtime > _OLD_SECONDS:
                left.unlink(missing_ok=True)
        beside.write_bytes(made.serialize())
        beside.replace(kept)
    except (OSError, sqlite3.Error):
        pass
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _known_objects(index: sqlite3.Connection) -> dict[tuple[str, str], int]:
    rows = index.execute("SELECT stage, key, inode FROM objects")
    return {(stage, key): inode for stage, key, inode in rows}


def _known_records(index: sqlite3.Connection) -> dict[tuple[str, str], str]:
    rows = index.execute("SELECT sweep, run, state FROM records")
    return {(sweep, run): state for sweep, run, state in rows}


def _objects(root: Path) -> Iterator[_Object]:
    """What lies in the folders of results; a folder made anew is another."""
    for stage in _folders(root / "objects"):
        for entry in _folders(stage.path):
            yield _Object(stage.name, entry.name, entry.inode())


def _records(runs: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """State of every record by its sweep and run."""
    for sweep in _folders(runs):
        for run in _folders(sweep.path):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(f"{run.path}/record.json")  # noqa: PTH116
                state = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
                yield (sweep.name, run.name), state


def _folders(place: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return sorted((one for one in entries if one.is_dir()), key=lambda one: one.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _forget(
    index: sqlite3.Connection, gone: Iterable[tuple[str, str]], dropped: Iterable[tuple[str, str]]
) -> None:
    of_object = "(SELECT id FROM objects WHERE stage = ? AND key = ?)"
    of_record = "(SELECT id FROM records WHERE sweep = ? AND run = ?)"
    gone, dropped = list(gone), list(dropped)
    index.executemany(f"DELETE FROM mentions WHERE object = {of_object}", gone)
    index.executemany("DELETE FROM objects WHERE stage = ? AND key = ?", gone)
    index.executemany(f"DELETE FROM uses WHERE record = {of_record}", dropped)
    index.executemany("DELETE FROM records WHERE sweep = ? AND run = ?", dropped)


def _add_objects(index: sqlite3.Connection, root: Path, fresh: list[_Object]) -> None:
    _forget(index, [(one.stage, one.key) for one in fresh], ())
    for one in told(fresh, "reading results"):
        directory = root / "objects" / one.stage / one.key
        if (modified := _modified(directory)) is None:
            continue  # no result of ours
        size, keys, sealed = _sealed(directory)
        row = (one.stage, one.key, one.inode, size, modified, sealed)
        added = index.execute(
            "INSERT INTO objects (stage, key, inode, bytes, modified, sealed)"
            " VALUES (?, ?, ?, ?, ?, ?)", row,
        )  # fmt: skip
        mentions = [(added.lastrowid, key) for key in keys if key != one.key]
        index.executemany("INSERT INTO mentions VALUES (?, ?)", mentions)


def _modified(directory: Path) -> float | None:
    for name in (RESULT_FILE, SEAL_FILE):  # the first may have been lost
        with contextlib.suppress(OSError):
            return (directory / name).stat().st_mtime
    return None


def _sealed(directory: Path) -> tuple[int, set[str], bool]:
    """Size of a result in bytes, keys that its seal mentions, and whether it has one."""
    try:
        seal = read_seal(directory)
    except (OSError, ValueError, TypeError):
        seal = None
    size = None if seal is None else seal.size_bytes
    if size is None:
        try:
            size = sum(size for size, _ in states(directory).values())
        except OSError:
            size = 0
    keys = set() if seal is None else {text for text in seal.mentions() if _KEY.fullmatch(text)}
    return size, keys, seal is not None


def _add_records(
    index: sqlite3.Connection, runs: Path, changed: dict[tuple[str, str], str]
) -> None:
    _forget(index, (), changed)
    for (sweep, run), state in told(changed.items(), "reading records"):
        status, used = _read(runs / sweep / run / "record.json")
        added = index.execute(
            "INSERT INTO records (sweep, run, state, status) VALUES (?, ?, ?, ?)",
            (sweep, run, state, status),
        )
        rows = [(added.lastrowid, stage, key) for stage, key in used]
        index.executemany("INSERT OR IGNORE INTO uses VALUES (?, ?, ?)", rows)


def _read(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """Status of a record's run, and the stages and keys of the results it used."""
    from pydantic_core import from_json

    try:
        written = path.read_bytes()
        if is_altered(written):
            return UNREADABLE, []
        content: Any = from_json(written)
        used = [(str(one["stage"]), str(one["key"])) for one in content["stages"]]
        return str(content["status"]), used
    except (OSError, ValueError, TypeError, KeyError):
        return UNREADABLE, []
