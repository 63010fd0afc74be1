"""Files of ours that are read again: what is whole is used, what is not is told and made anew."""

import errno
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.errors import StageError, UsageError
from runner.store.checked_files import is_as_fetched, read_kept, set_file_aside
from runner.store.disk_errors import (
    disk_errors_explained,
    explain_disk_error,
    is_writable,
    require_writable,
)
from runner.store.files import (
    is_altered,
    sha256_of_file,
    sha256_of_json,
    write_checked_json,
    write_text_atomically,
)
from runner.store.inventory import Inventory, Retention
from runner.store.journal import Journal, checked_line, content_of
from runner.store.objects import RESULT_FILE, Address, ObjectStore
from runner.store.partial_results import PartialResults
from runner.store.provenance import CHECK_FILE, SEAL_FILE, Check, faults, write_seal

pytestmark = pytest.mark.unit

DAY = 86_400


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_damaged_file_is_set_aside_and_each_keeps_a_name_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kept.json"
    assert read_kept(path) is None
    assert capsys.readouterr().err == "", "nothing was there"
    for content in ('{"a": ', "[1]", "[" * 200_000):
        path.write_text(content)
        assert read_kept(path) is None
        assert not path.exists()
    left = [tmp_path / f"kept.json.damaged{end}" for end in ("", "-2", "-3")]
    assert [one.read_text()[:6] for one in left] == ['{"a": ', "[1]", "[[[[[["]
    said = capsys.readouterr().err
    assert "kept.json is damaged: it was renamed to kept.json.damaged-3" in said
    path.write_text('{"a": 1}')
    assert read_kept(path) == {"a": 1}
    set_file_aside(tmp_path / "nothing")
    assert "nothing" not in capsys.readouterr().err


def test_a_fetched_file_is_read_again_once_a_day_and_when_it_changed(tmp_path: Path) -> None:
    path, note = tmp_path / "weights", tmp_path / ".weights.checked"
    path.write_bytes(b"abc")
    assert not is_as_fetched(path, sha256(b"xyz"))
    assert not note.exists(), "what is wrong is not noted"
    assert is_as_fetched(path, sha256(b"abc"))
    status = path.stat()
    assert note.read_text() == f"{sha256(b'abc')} 3 {status.st_mtime_ns}"
    assert [one.name for one in tmp_path.glob(".*")] == [note.name]

    def changed_behind_our_back(age: float) -> bool:
        """Same size, same time, other content: only a digest can tell."""
        path.write_bytes(b"abc")
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        assert is_as_fetched(path, sha256(b"abc"))
        path.write_bytes(b"abd")
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        aged(note, age)
        return not is_as_fetched(path, sha256(b"abc"))

    assert not changed_behind_our_back(DAY - 60)
    assert changed_behind_our_back(DAY + 60)
    assert changed_behind_our_back(-60), "a note of the future proves nothing"
    path.write_bytes(b"abcd")
    assert not is_as_fetched(path, sha256(b"abc"))
    assert not is_as_fetched(path, sha256(b"xyz")), "another digest is asked for"


def test_digests_are_those_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    told: list[int] = []
    assert sha256_of_file(path, told.append) == sha256(b"0123456789")
    assert told == [10]
    assert sha256_of_json({"b": 1, "a": [1.5, None]}) == sha256(b'{"a":[1.5,null],"b":1}')
    with pytest.raises(ValueError, match="JSON"):
        sha256_of_json(float("nan"))


def test_a_record_that_was_edited_is_known(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    write_checked_json(path, {"status": "ok", "n": 1})
    content = path.read_bytes()
    body = json.loads(content)
    assert body.pop("sha256") == sha256(json.dumps(body, indent=2).encode())
    assert body == {"status": "ok", "n": 1}
    assert content.endswith(b'"\n}\n')
    assert not is_altered(content)
    assert is_altered(content.replace(b"ok", b"no"))
    assert is_altered(content + b" ")
    assert not is_altered(b'{\n  "status": "ok"\n}\n'), "an older one, without a digest"
    write_text_atomically(path, "é")
    assert path.read_bytes() == "é".encode()
    assert [one.name for one in path.parent.iterdir()] == ["record.json"]


def test_a_line_tells_whether_it_is_whole() -> None:
    line = checked_line("a b")
    assert line == f"{sha256(b'a b')[:16]} a b\n"
    assert content_of(line) == "a b"
    assert content_of(line[:-2]) is None
    assert content_of("a b") is None
    assert content_of(checked_line("")) == ""


def test_the_last_digest_noted_of_a_file_counts(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    journal = Journal(folder)
    assert not journal.is_sound("x"), "neither is the folder there"
    journal.note("x", sha256(b"1"))
    assert not journal.is_sound("x"), "noted, but not there"
    (folder / "x").write_bytes(b"2")
    assert not journal.is_sound("x")
    journal.note("x", sha256(b"2"))
    assert journal.is_sound("x")
    with (folder / "digests.jsonl").open("a") as stream:
        stream.write('["x", "tor')  # where a kill cut it off
    assert Journal(folder).is_sound("x")
    (folder / "y").write_bytes(b"2")
    assert not Journal(folder).is_sound("y"), "nobody noted it"


def test_units_are_computed_once_and_again_where_they_are_not_whole(tmp_path: Path) -> None:
    def units() -> PartialResults:
        return PartialResults(tmp_path / "partial")

    def never() -> Any:
        raise AssertionError("it is kept")

    assert units().array("a", lambda: np.array([1.5, 2.5])).tolist() == [1.5, 2.5]
    assert units().value("v", lambda: {"x": [1]}) == {"x": [1]}
    assert units().array("a", never).tolist() == [1.5, 2.5]
    assert units().value("v", never) == {"x": [1]}
    assert sorted(one.name for one in (tmp_path / "partial").iterdir()) == [
        "a.npy", "digests.jsonl", "v.json",
    ]  # fmt: skip
    kept = units()
    assert ("a" in kept, "v" in kept, "w" in kept) == (True, True, False)
    (tmp_path / "partial" / "v.json").write_text("{")
    assert "v" not in units()
    assert units().value("v", lambda: 7) == 7
    for name in ("a", "v", "w"):
        units().drop(name)
    assert ("a" in units(), "v" in units()) == (False, False)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_one(number: int, tmp_path: Path) -> None:
    told = explain_disk_error(OSError(number, os.strerror(number)), tmp_path)
    assert told is not None and told.startswith(f"no room to write in the store {tmp_path} (")
    assert " MB are free)" in told


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR])
def test_a_closed_store_is_told_with_the_reason(number: int, tmp_path: Path) -> None:
    def told(place: str | None) -> str | None:
        return explain_disk_error(OSError(number, os.strerror(number), place), tmp_path / "store")

    for place in (str(tmp_path / "store" / "x"), str(tmp_path), "relative", None):
        said = told(place)
        assert said is not None
        assert f"cannot be written to ({os.strerror(number).lower()})" in said
    if number != errno.EROFS:
        assert told("/elsewhere/x") is None


def test_a_store_on_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(UsageError, match=r"cannot be written to \(not a directory\)"):
        require_writable(place / "store")
    with pytest.raises(UsageError, match=r"cannot be written to \(file exists\)"):
        require_writable(place)
    assert not is_writable(place)
    assert is_writable(tmp_path / "new" / "deep")
    assert [*(tmp_path / "new" / "deep").iterdir()] == [], "the probe is gone"
    with pytest.raises(StageError, match="no room"), disk_errors_explained(tmp_path):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(KeyError), disk_errors_explained(tmp_path):
        raise KeyError
    with pytest.raises(FileNotFoundError), disk_errors_explained(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "absent")


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A result with its seal."""
    place = tmp_path / "result"
    (place / "checkpoint").mkdir(parents=True)
    (place / RESULT_FILE).write_text('{"result": {}}')
    (place / "checkpoint" / "weights").write_bytes(b"weights")
    write_seal(place, {"a": ["key"]})
    return place


def test_digests_are_compared_once_a_day(sealed: Path) -> None:
    def holds() -> bool:
        check = Check.of(sealed)
        assert check is not None
        return check.holds()

    assert holds()
    aged(sealed / SEAL_FILE, DAY - 60)
    assert holds()
    aged(sealed / SEAL_FILE, DAY + 60)
    assert not holds()
    aged(sealed / SEAL_FILE, -60)
    assert not holds(), "of the future"
    told: list[tuple[int, int]] = []
    assert faults(sealed, lambda done, total: told.append((done, total))) == []
    assert told[-1] == (21, 21), "14 bytes of the result and 7 of weights"
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert holds(), "what was found sound is noted with the seal, whose states are as they were"
    assert not (sealed / CHECK_FILE).exists()
    os.utime(sealed / "checkpoint" / "weights", (1, 1))
    assert not holds()
    assert faults(sealed) == [], "a copy has other times"
    assert (sealed / CHECK_FILE).exists() and holds()


def test_what_is_wrong_with_a_result_is_told_file_by_file(sealed: Path) -> None:
    weights = sealed / "checkpoint" / "weights"
    (sealed / "note.md").write_text("mine")
    (sealed / ".nfs01").write_text("left")
    (sealed / "checkpoint" / ".cache").mkdir()
    (sealed / "checkpoint" / ".cache" / "x").write_text("left")
    assert faults(sealed) == []
    (sealed / "checkpoint" / "more.bin").write_text("x")
    weights.write_bytes(b"weightz")
    assert faults(sealed) == ["checkpoint/more.bin was added", "checkpoint/weights has changed"]
    weights.write_bytes(b"longer weights")
    (sealed / RESULT_FILE).unlink()
    (sealed / "checkpoint" / "more.bin").unlink()
    assert faults(sealed) == [f"{RESULT_FILE} is missing", "checkpoint/weights has changed"]
    (sealed / SEAL_FILE).write_text("[]")
    assert faults(sealed) == [f"{SEAL_FILE} cannot be read"]
    (sealed / SEAL_FILE).write_text('{"determinants": [], "files": {}}')
    assert faults(sealed) == [f"{SEAL_FILE} cannot be read"]
    (sealed / SEAL_FILE).unlink()
    assert faults(sealed) == [], "made before there were seals"


def test_a_file_that_cannot_be_read_is_not_sound(sealed: Path) -> None:
    unreadable = Path("/proc/self/mem")  # a regular file of no bytes whose first cannot be read
    (sealed / "empty").write_bytes(b"")
    write_seal(sealed, {})
    (sealed / "empty").unlink()
    (sealed / "empty").symlink_to(unreadable)
    assert faults(sealed) == ["empty cannot be read (input/output error)"]
    journal = Journal(sealed)
    journal.note("empty", sha256(b""))
    assert not journal.is_sound("empty")


def test_a_result_that_went_away_meanwhile_is_not_as_it_was(sealed: Path) -> None:
    check = Check.of(sealed)
    assert check is not None and check.holds()
    shutil.rmtree(sealed)
    assert not check.holds()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "cannot be read"),
        ("[]", "contains no result"),
        ('{"result": 1}', "contains no result"),
        ('{"result": {}}', None),
        (None, "is missing"),
    ],
)
def test_a_result_is_one(content: str | None, fault: str | None, tmp_path: Path) -> None:
    store, address = ObjectStore(tmp_path), Address("eval", "0" * 20)
    place = store.directory(address)
    place.mkdir(parents=True)
    if content is not None:
        (place / RESULT_FILE).write_text(content)
    assert store.faults(address) == ([] if fault is None else [f"{RESULT_FILE} {fault}"])
    assert store.is_as_checked(address), "without a seal nothing can be known"
    assert not store.is_as_checked(Address("eval", "1" * 20)), "it is not there"


@pytest.mark.parametrize(
    ("age", "retention", "goes"),
    [
        (3600 - 60, Retention.needed, False),
        (3600 + 60, Retention.needed, True),
        (3600 + 60, Retention.shared_input, True),
        (3600 + 60, Retention.always, False),
    ],
)
def test_what_is_older_than_an_hour_and_unneeded_goes(
    age: float, retention: Retention, goes: bool, tmp_path: Path
) -> None:
    store, address = ObjectStore(tmp_path), Address("eval", "0" * 20)
    with store.writing(address) as work:
        (work / RESULT_FILE).write_text('{"result": {}}')
        write_seal(work, {})
    aged(store.directory(address) / RESULT_FILE, age)
    unneeded = Inventory(store, lambda stage: retention).unneeded()
    assert [one.address for one in unneeded] == [address] * goes
    assert all((one.size_bytes, one.is_sealed) == (14, True) for one in unneeded)
