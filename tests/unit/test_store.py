"""The store: what exists is whole, one key is made once, records come back."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runner.store.disk_errors import explain_disk_error
from runner.store.files import sha256_of_file, write_json_atomically
from runner.store.objects import RESULT_FILE, Address, ObjectStore, add_finding
from runner.store.partial_results import PartialResults
from runner.store.records import (
    RunRecord,
    StageRecord,
    Status,
    latest_sweep,
    read_records,
    write_record,
)
from tests.unit.records import content_of

pytestmark = pytest.mark.unit

ADDRESS = Address.of("eval", {"model": "a", "windows": 16})


def finish(work: Path, value: object = 1) -> None:
    (work / RESULT_FILE).write_text(json.dumps({"value": value}))


def test_address_depends_on_values_and_not_on_their_order() -> None:
    assert Address.of("eval", {"windows": 16, "model": "a"}) == ADDRESS
    others = [
        Address.of("eval", {"model": "a", "windows": 17}),
        Address.of("eval", {"model": "a", "windows": "16"}),
        Address.of("bench", {"model": "a", "windows": 16}),
    ]
    assert ADDRESS not in others
    assert str(ADDRESS).startswith("eval/")


def test_nothing_is_created_before_it_is_needed(store: Path) -> None:
    assert ObjectStore(store).read(ADDRESS) is None
    assert not store.exists()


def test_a_finished_result_is_found_with_its_files(store: Path) -> None:
    objects = ObjectStore(store)
    with objects.writing(ADDRESS) as work:
        finish(work)
        (work / "more.bin").write_bytes(b"abc")
        assert objects.read(ADDRESS) is None, "unfinished work is invisible"
    assert objects.read(ADDRESS) == {"value": 1}
    assert (objects.directory(ADDRESS) / "more.bin").read_bytes() == b"abc"
    assert list((store / "staging").iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_nothing(error: type[BaseException], store: Path) -> None:
    objects = ObjectStore(store)
    with pytest.raises(error), objects.writing(ADDRESS) as work:
        finish(work)
        raise error
    assert objects.read(ADDRESS) is None
    assert not objects.directory(ADDRESS).exists()
    assert list((store / "staging").iterdir()) == []


def test_redoing_replaces_and_an_error_meanwhile_keeps_the_old(store: Path) -> None:
    objects = ObjectStore(store)
    for value in (1, 2):
        with objects.writing(ADDRESS) as work:
            finish(work, value)
            (work / f"only_in_{value}").touch()
    with pytest.raises(RuntimeError), objects.writing(ADDRESS):
        raise RuntimeError
    assert objects.read(ADDRESS) == {"value": 2}
    files = {path.name for path in objects.directory(ADDRESS).iterdir()}
    assert files == {RESULT_FILE, "only_in_2"}


def test_leftovers_of_the_dead_are_removed_and_of_others_are_kept(store: Path) -> None:
    mine = store / "staging" / f"{ADDRESS.stage}-{ADDRESS.key}-dead"
    other = store / "staging" / "eval-anotherkey-alive"
    for directory in (mine, other):
        directory.mkdir(parents=True)
        (directory / "half").touch()
    with ObjectStore(store).writing(ADDRESS) as work:
        assert not mine.exists()
        finish(work)
    assert (other / "half").exists()


CONTENDER = """
import sys, time
from pathlib import Path
from runner.store.objects import RESULT_FILE, Address, ObjectStore

store = ObjectStore(Path(sys.argv[1]))
address = Address.of("eval", {"model": "a", "windows": 16})
with store.locked(address, lambda: print("waiting", flush=True)):
    if store.read(address) is None:
        with store.writing(address) as work:
            print("making", flush=True)
            sys.stdin.readline()
            (work / RESULT_FILE).write_text('{"value": "%s"}' % sys.argv[2])
    else:
        print("reusing", flush=True)
"""


def contend(store: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CONTENDER, str(store), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_two_processes_one_makes_it_and_the_other_uses_it(store: Path) -> None:
    with contend(store, "first") as first, contend(store, "second") as second:
        words = {said(first): first, said(second): second}
        assert set(words) == {"making", "waiting"}
        words["making"].communicate("go on\n", timeout=30)
        rest, _ = words["waiting"].communicate(timeout=30)
        assert rest.strip() == "reusing"
    assert ObjectStore(store).read(ADDRESS) is not None


def test_the_lock_of_a_killed_process_is_free_and_its_work_is_gone(store: Path) -> None:
    objects = ObjectStore(store)
    with contend(store, "killed") as first:
        assert said(first) == "making"
        os.kill(first.pid, signal.SIGKILL)
    assert objects.read(ADDRESS) is None
    with contend(store, "next") as second:
        assert said(second) == "making"
        second.communicate("go on\n", timeout=30)
    assert objects.read(ADDRESS) == {"value": "next"}
    assert list((store / "staging").iterdir()) == []


def test_other_keys_do_not_wait(store: Path) -> None:
    objects = ObjectStore(store)
    waited = []
    with objects.locked(ADDRESS, lambda: None):
        other = Address.of("eval", {"model": "b"})
        with objects.locked(other, lambda: waited.append(other)):
            pass
    assert waited == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_json_atomically(path, {"a": 1})
    before = sha256_of_file(path)
    with pytest.raises(TypeError):
        write_json_atomically(path, {"a": object()})
    assert sha256_of_file(path) == before
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def record(sweep: str, run: str, **changes: object) -> RunRecord:
    plain = {
        "label": "gptq-w4a16-g64",
        "model": "tiny",
        "engine": "hf",
        "status": Status.ok,
        "reason": None,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "overrides": ["method=gptq"],
        "config": {"bits": {"weight": {"num_bits": 4}}},
    }
    return RunRecord(sweep=sweep, run=run, **{**plain, **changes})  # type: ignore[arg-type]


def test_records_come_back_equal_and_in_order(tmp_path: Path) -> None:
    stage = StageRecord(
        "eval", "baseline", "abc", False, 2.0, "default", {}, {"perplexity": {"value": 12.5}}
    )
    written = [
        record("s", "001-b", status=Status.skipped, reason="because"),
        record("s", "000-a", stages=[stage], warnings=["w"], log_tail=["line"]),
    ]
    for entry in written:
        write_record(tmp_path, entry)
    assert read_records(tmp_path, "s") == written[::-1]
    assert read_records(tmp_path, "t") == []
    assert content_of(written[1], "eval", "baseline") == {"perplexity": {"value": 12.5}}
    assert written[1].entry("eval") is None


def test_a_record_is_plain_json_and_rewritten_as_the_run_goes_on(tmp_path: Path) -> None:
    entry = record("s", "000-a", status=Status.interrupted)
    path = write_record(tmp_path, entry)
    assert json.loads(path.read_text())["status"] == "interrupted"
    entry.status = Status.ok
    assert write_record(tmp_path, entry) == path
    assert json.loads(path.read_text())["status"] == "ok"


def test_the_latest_sweep_is_the_one_written_last(tmp_path: Path) -> None:
    assert latest_sweep(tmp_path) is None
    for second, (sweep, run) in enumerate([("z", "000"), ("a", "000"), ("z", "001"), ("m", "000")]):
        os.utime(write_record(tmp_path, record(sweep, run)), (second, second))
    assert latest_sweep(tmp_path) == "m"


def test_what_a_killed_attempt_finished_is_kept_for_the_next(store: Path) -> None:
    objects = ObjectStore(store)
    with pytest.raises(RuntimeError), objects.writing(ADDRESS):
        assert PartialResults(objects.partial(ADDRESS)).value("a", lambda: {"n": 1}) == {"n": 1}
        array = PartialResults(objects.partial(ADDRESS)).array("b", lambda: np.arange(3))
        assert array.tolist() == [0, 1, 2]
        raise RuntimeError
    objects.clear_leftovers()
    with objects.writing(ADDRESS) as work:
        units = PartialResults(objects.partial(ADDRESS))
        assert units.value("a", pytest.fail) == {"n": 1}
        assert units.array("b", pytest.fail).tolist() == [0, 1, 2]
        assert ("a" in units, "b" in units, "c" in units) == (True, True, False)
        finish(work)
    assert not objects.partial(ADDRESS).exists()


def test_nobody_waits_for_ever_for_unfinished_work(store: Path) -> None:
    objects = ObjectStore(store)
    path = objects.partial(ADDRESS)
    PartialResults(path).value("a", lambda: 1)
    long_ago = time.time() - 40 * 24 * 3600
    os.utime(path, (long_ago, long_ago))
    with objects.locked(ADDRESS, lambda: None):
        ObjectStore(store).clear_leftovers()
        assert path.exists(), "somebody is at it"
    objects.clear_leftovers()
    assert not path.exists()


def test_only_work_that_nobody_does_and_nobody_needs_is_cleared(store: Path) -> None:
    objects = ObjectStore(store)
    day = 24 * 3600
    done, young, old = (Address.of("eval", {"model": name}) for name in ("done", "young", "old"))
    busy, dead = (store / "staging" / f"{each.stage}-{each.key}-1" for each in (ADDRESS, done))
    for folder in (busy, dead, *(objects.partial(each) for each in (done, young, old))):
        (folder / "deep").mkdir(parents=True)
    objects.directory(done).mkdir(parents=True)
    for address, age in ((done, 0), (young, 29 * day), (old, 31 * day)):
        os.utime(objects.partial(address), (time.time() - age,) * 2)
    with objects.locked(ADDRESS, lambda: None):
        ObjectStore(store).clear_leftovers()
    assert (busy.exists(), dead.exists()) == (True, False)
    kept = [objects.partial(each).exists() for each in (done, young, old)]
    assert kept == [False, True, False], "finished, or nobody came for a month"
    assert objects.directory(done).exists()
    objects.clear_leftovers()
    assert not busy.exists()


def test_a_damaged_result_is_set_aside_under_a_number_of_its_own(store: Path) -> None:
    objects = ObjectStore(store)
    for number in (1, 2, 3):
        with objects.writing(ADDRESS) as work:
            finish(work, number)
        place = objects.set_aside(ADDRESS)
        assert place == store / "damaged" / f"{ADDRESS.stage}-{ADDRESS.key}-{number}"
        assert json.loads((place / RESULT_FILE).read_text()) == {"value": number}
        assert not objects.holds(ADDRESS)
        assert objects.read(ADDRESS) is None


def test_a_full_or_closed_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    full = explain_disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), tmp_path) or ""
    assert full.startswith(f"no room to write in the store {tmp_path} (")
    assert "runner store prune" in full
    gone = tmp_path / "gone"  # how much room there is cannot be told
    full_there = explain_disk_error(OSError(errno.ENOSPC, "full"), gone) or ""
    assert full_there.startswith(f"no room to write in the store {gone}: free space")
    closed = explain_disk_error(OSError(errno.EROFS, os.strerror(errno.EROFS)), tmp_path) or ""
    assert f"{tmp_path} cannot be written to (read-only file system)" in closed
    assert "store.root=PATH" in closed
    quoted = explain_disk_error(RuntimeError(f"torch: {os.strerror(errno.ENOSPC)}"), tmp_path)
    assert quoted == full, "as libraries quote it"
    assert explain_disk_error(OSError(errno.ENOENT, "No such file"), tmp_path) is None


def test_only_the_stores_own_files_are_told_as_the_stores(tmp_path: Path) -> None:
    root = tmp_path / "store"
    closed = errno.EACCES, "Permission denied"
    assert explain_disk_error(PermissionError(*closed, str(root / "runs" / "x")), root) is not None
    assert explain_disk_error(PermissionError(*closed, str(tmp_path)), root) is not None, (
        "its parent"
    )
    assert explain_disk_error(PermissionError(*closed, "/opt/mine/bin/python"), root) is None


def test_what_a_second_stage_found_becomes_a_field_of_the_result(tmp_path: Path) -> None:
    (tmp_path / RESULT_FILE).write_text('{"result": {"bytes": 7}, "resources": {}}')
    found = '{"result": {"layers": ["ü"]}, "resources": {"processor_seconds": 1.5}}'
    (tmp_path / "check.json").write_text(found, "utf-8")
    add_finding(tmp_path, "check")
    assert json.loads((tmp_path / RESULT_FILE).read_text("utf-8")) == {
        "result": {"bytes": 7, "check": {"layers": ["ü"]}},
        "resources": {"inspection_processor_seconds": 1.5},
    }
    assert [one.name for one in tmp_path.iterdir()] == [RESULT_FILE]
