"""What a store says of itself, and what it gives up."""

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.cli import store as cli
from runner.cli.store import execute
from runner.config.compose import quoted
from runner.errors import StageError
from runner.pipeline.stages import retention_of
from runner.store.files import write_json_atomically
from runner.store.index import INDEX_FILE, _sealed
from runner.store.inventory import Inventory
from runner.store.liveness import carried_out
from runner.store.objects import RESULT_FILE, Address, ObjectStore
from runner.store.provenance import SEAL_FILE, faults, read_seal, write_seal
from runner.store.records import OPEN, RunRecord, StageRecord, Status, write_record
from tests.unit import records

pytestmark = pytest.mark.unit


def put(
    store: ObjectStore, stage: str, determinants: dict[str, Any], sealed: bool = True
) -> Address:
    """A finished result, two hours old."""
    address = Address.of(stage, determinants)
    with store.writing(address) as directory:
        (directory / "checkpoint").mkdir()
        (directory / "checkpoint" / "weights").write_bytes(stage.encode() * 100)
        write_json_atomically(directory / RESULT_FILE, {"stage": stage, "result": {}})
        if sealed:
            write_seal(directory, determinants)
    then = time.time() - 7200
    os.utime(store.directory(address) / RESULT_FILE, (then, then))
    return address


def record(store: ObjectStore, sweep: str, *used: Address) -> None:
    stages = [StageRecord(a.stage, "recipe", a.key, False, 1.0, "default", {}, {}) for a in used]
    write_record(
        store.runs,
        RunRecord(
            sweep=sweep, run="000-l", label="l", model="m", engine="hf", status=Status.ok,
            reason=None, started="2026-01-01T00:00:00+00:00", seconds=1.0, overrides=[], config={},
            stages=stages,
        ),
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


@pytest.fixture
def kept(store: ObjectStore) -> dict[str, Address]:
    """Two sweeps: one evaluated a checkpoint that was calibrated on a text, the other another."""
    text = put(store, "text", {"text": "prose"})
    made = put(store, "quantize", {"recipe": 1, "calibration_text": text.key})
    scored = put(store, "eval", {"subject": {"checkpoint": made.key}})
    other = put(store, "quantize", {"recipe": 2})
    model = put(store, "model", {"model": "m"})
    record(store, "good", scored)
    record(store, "old", other)
    return {"text": text, "made": made, "scored": scored, "other": other, "model": model}


def test_what_a_kept_run_needs_is_kept(store: ObjectStore, kept: dict[str, Address]) -> None:
    assert Inventory(store, retention_of).unneeded() == []
    without = Inventory(store, retention_of).unneeded(without=["old"])
    assert [one.address for one in without] == [kept["other"]]
    both = {one.address for one in Inventory(store, retention_of).unneeded(without=["old", "good"])}
    assert both == set(kept.values()) - {kept["model"]}


def test_what_is_young_or_of_unknown_origin_is_spared(
    store: ObjectStore, kept: dict[str, Address]
) -> None:
    os.utime(store.directory(kept["other"]) / RESULT_FILE)
    assert Inventory(store, retention_of).unneeded(without=["old"]) == []
    unsealed = put(store, "eval", {"subject": "unsealed"}, sealed=False)
    lonely = put(store, "text", {"text": "lonely"})
    assert [one.address for one in Inventory(store, retention_of).unneeded()] == [unsealed, lonely]
    record(store, "new", unsealed)
    assert Inventory(store, retention_of).unneeded() == [], "it may have been made from that text"


def test_dependencies_are_told_both_ways(store: ObjectStore, kept: dict[str, Address]) -> None:
    inventory = Inventory(store, retention_of)
    assert inventory.made_from(kept["scored"]) == [kept["made"]]
    assert inventory.used_by(kept["text"]) == [kept["made"]]
    assert inventory.runs_of(kept["scored"]) == ["good/000-l"]


def test_results_are_found_by_stage_or_by_the_beginning_of_their_key(
    store: ObjectStore, kept: dict[str, Address]
) -> None:
    inventory = Inventory(store, retention_of)

    def found(text: str) -> list[Address]:
        return [one.address for one in inventory.find(text)]

    both = sorted((kept["made"], kept["other"]), key=lambda one: one.key)
    assert found("quantize") == both
    assert found("quantize/") == both
    assert found(f"quantize/{kept['made'].key[:6]}") == [kept["made"]]
    assert found(kept["made"].key[:6]) == found(kept["made"].key) == [kept["made"]]
    assert found(f"eval/{kept['made'].key[:6]}") == []
    assert found("quant") == found("%") == found("quantize/%") == found("_" * 6) == []
    assert len(found("")) == 5


def test_sizes_are_summed_by_stage(store: ObjectStore, kept: dict[str, Address]) -> None:
    inventory = Inventory(store, retention_of)
    sizes = {stage: (count, size) for stage, count, size, _ in inventory.sizes()}
    assert list(sizes) == ["eval", "model", "quantize", "text"]
    each = inventory.held[kept["made"]].size_bytes
    assert each == inventory.held[kept["other"]].size_bytes > 800
    assert (sizes["quantize"], sizes["text"][0]) == ((2, 2 * each), 1)
    then = time.time() - 7200
    assert all(abs(latest - then) < 60 for *_, latest in inventory.sizes())


def test_a_seal_tells_what_has_changed(store: ObjectStore, kept: dict[str, Address]) -> None:
    directory = store.directory(kept["made"])
    assert faults(directory) == []
    (directory / "checkpoint" / "weights").write_bytes(b"x")
    assert faults(directory) == ["checkpoint/weights has changed"]
    (directory / "checkpoint" / "weights").unlink()
    assert faults(directory) == ["checkpoint/weights is missing"]
    (directory / SEAL_FILE).write_text("{")
    assert faults(directory) == [f"{SEAL_FILE} cannot be read"]
    (directory / SEAL_FILE).unlink()
    assert faults(directory) == []
    assert read_seal(directory) is None


def test_the_command_line(
    store: ObjectStore,
    kept: dict[str, Address],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("QUANT_RUNNER_STORE", str(store.root))

    def said(*arguments: str, code: int = 0) -> str:
        assert execute(arguments) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    listed = said("list")
    assert "quantize         2 results" in listed
    assert "sweep good: 1 ok" in listed
    shown = said("show", kept["made"].key[:8])
    assert f"made from {kept['text']}" in shown
    assert f"used by {kept['scored']}" in shown
    assert "5 sound, 0 damaged, 0 without digests" in said("verify")
    assert f"{kept['other']}" in said("prune", "old")
    assert store.directory(kept["other"]).exists(), "it was only told"
    assert "1 of 1 results deleted" in said("prune", "--yes", "old")
    assert not store.directory(kept["other"]).exists()
    assert not (store.runs / "old").exists()
    assert store.directory(kept["made"]).exists()
    (store.directory(kept["made"]) / "checkpoint" / "weights").unlink()
    assert "checkpoint/weights is missing" in said("verify", code=1)
    assert "there is no sweep nope; known sweeps: good" in said("prune", "nope", code=2)
    assert "the store has no result zzz" in said("show", "zzz", code=2)
    assert "there is no runner store drop (verbs: list," in said("drop", code=2)


def test_a_record_of_another_version_is_told_in_one_line(
    store: ObjectStore, kept: dict[str, Address], capsys: pytest.CaptureFixture[str]
) -> None:
    path = store.runs / "old" / "000-l" / "record.json"
    path.write_text('{"sweep": "old"}')
    assert execute(["list", f"store.root={quoted(store.root)}"]) == 1
    said = capsys.readouterr().err
    assert (
        said == f"runner: {path} is not a record that this version can read; delete it or move it "
        "away\n"
    )


def first_use(store: ObjectStore) -> Inventory:
    """An inventory that reads every folder anew."""
    (store.cache / INDEX_FILE).unlink(missing_ok=True)
    return Inventory(store, retention_of)


@pytest.mark.parametrize(
    ("seal", "sealed"),
    [
        (None, False),
        ("{", False),
        ('{"determinants": {}, "files": {"result.json": "12"}}', True),
        ('{"determinants": {}, "files": {"a": "1"}, "states": {"a": [5, 1]}}', True),
    ],
)
def test_a_result_whose_seal_tells_no_size_is_measured(
    seal: str | None, sealed: bool, store: ObjectStore
) -> None:
    address = put(store, "text", {"text": "prose"})
    place = store.directory(address)
    (place / SEAL_FILE).unlink()
    if seal is not None:
        (place / SEAL_FILE).write_text(seal)
    (found,) = first_use(store).held.values()
    size = 4 * 100 + (place / RESULT_FILE).stat().st_size
    assert (found.size_bytes, found.is_sealed) == (
        5 if '"states"' in (seal or "") else size,
        sealed,
    )


def test_a_result_that_goes_away_while_it_is_measured_has_no_size(tmp_path: Path) -> None:
    assert _sealed(tmp_path / "gone") == (0, set(), False)


def test_a_folder_without_a_result_is_none(store: ObjectStore) -> None:
    (store.root / "objects" / "eval" / ("0" * 20)).mkdir(parents=True)
    (store.root / "objects" / "note.txt").write_text("mine")
    inventory = Inventory(store, retention_of)
    assert (inventory.held, inventory.sizes()) == ({}, [])


def test_keys_that_a_seal_mentions_are_others_and_whole(store: ObjectStore) -> None:
    """A result is not made from itself, nor from what merely begins like a key."""
    first = put(store, "text", {"text": "prose"})
    second = put(store, "eval", {"of": [first.key, {"deep": first.key}], "not": first.key[:19]})
    place = store.directory(first)
    seal = json.loads((place / SEAL_FILE).read_text())
    seal["determinants"] = {"own": first.key, "longer": second.key + "0", "upper": "G" * 20}
    (place / SEAL_FILE).write_text(json.dumps(seal))
    inventory = first_use(store)
    assert inventory.made_from(first) == []
    assert inventory.made_from(second) == [first]
    assert inventory.used_by(first) == [second]


def test_an_index_of_another_version_is_made_anew(
    store: ObjectStore, kept: dict[str, Address]
) -> None:
    Inventory(store, retention_of)
    path = store.cache / INDEX_FILE
    with contextlib.closing(sqlite3.connect(path)) as index:
        index.executescript("UPDATE objects SET bytes = 7; PRAGMA user_version = 2")
    held = Inventory(store, retention_of).held
    assert held.keys() == set(kept.values()) and min(one.size_bytes for one in held.values()) > 7
    with contextlib.closing(sqlite3.connect(path)) as index:
        assert index.execute("PRAGMA user_version").fetchone() == (1,)
        assert index.execute("SELECT min(bytes) > 7 FROM objects").fetchone() == (1,)


def test_a_broken_index_of_a_store_that_is_only_read_from_does_no_harm(
    store: ObjectStore, kept: dict[str, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    Inventory(store, retention_of)
    path = store.cache / INDEX_FILE
    path.write_bytes(b"no index")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("unlink", "mkdir", "write_bytes", "replace"):
        monkeypatch.setattr(Path, name, refuse)
    assert set(Inventory(store, retention_of).held) == set(kept.values())
    assert path.read_bytes() == b"no index"


def test_copies_of_the_index_that_the_dead_left_go_after_an_hour(
    store: ObjectStore, kept: dict[str, Address]
) -> None:
    store.cache.mkdir(parents=True)
    old, young = (store.cache / f".{INDEX_FILE}.{name}" for name in ("old", "young"))
    for path, age in ((old, 3660), (young, 3540)):
        path.write_text("")
        os.utime(path, (time.time() - age,) * 2)
    Inventory(store, retention_of)
    assert sorted(one.name for one in store.cache.iterdir()) == [young.name, INDEX_FILE]


def test_a_status_of_a_later_version_counts_as_failed(
    store: ObjectStore, kept: dict[str, Address]
) -> None:
    path = store.runs / "old" / "000-l" / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "paused"}))
    sweeps = Inventory(store, retention_of).sweeps
    assert sweeps == {"good": {"000-l": Status.ok}, "old": {"000-l": Status.failed}}


def test_whether_an_open_run_goes_on_is_asked_of_its_process(store: ObjectStore) -> None:
    begun = records.record(0, "a", [], status=Status.interrupted, reason=OPEN, seconds=None)
    place = write_record(store.runs, begun)
    (store.runs / "empty").mkdir()
    with carried_out(place):
        sweeps = Inventory(store, retention_of).sweeps
    assert sweeps == {"demo": {begun.run: Status.running}, "empty": {}}
    sweeps = Inventory(store, retention_of).sweeps
    assert sweeps["demo"] == {begun.run: Status.interrupted}


def test_a_result_that_lost_its_file_is_as_old_as_it_was(
    store: ObjectStore, kept: dict[str, Address]
) -> None:
    place = store.directory(kept["other"])
    known = Inventory(store, retention_of)
    (place / RESULT_FILE).unlink()
    assert [one.address for one in known.unneeded(["old"])] == [kept["other"]]
    # Looked at for the first time, it has the seal's age.
    assert first_use(store).unneeded(["old"]) == []
    then = time.time() - 7200
    os.utime(place / SEAL_FILE, (then, then))
    assert [one.address for one in first_use(store).unneeded(["old"])] == [kept["other"]]
    store.set_aside(kept["other"])
    assert known.unneeded(["old"]) == [], "it is gone"


def test_what_another_process_makes_anew_is_not_removed(
    store: ObjectStore, kept: dict[str, Address]
) -> None:
    inventory = Inventory(store, retention_of)
    one, other = (inventory.held[kept[name]] for name in ("other", "model"))
    lock = store.root / "locks" / f"quantize-{kept['other'].key}.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert list(inventory.remove_all([one, other])) == [False, True]
        assert one.directory.exists() and not other.directory.exists()
    assert inventory.remove(one)
    assert not one.directory.exists()
    assert inventory.remove(one), "somebody else was as quick"
    assert list((store.root / "staging").iterdir()) == []


def test_troubles_with_the_disk_are_told_in_one_line(
    store: ObjectStore, kept: dict[str, Address], capsys: pytest.CaptureFixture[str]
) -> None:
    unsealed = put(store, "eval", {"subject": "unsealed"}, sealed=False)
    asked = cli._Asked(store, Inventory(store, retention_of))
    assert cli._show(asked, [unsealed.key]) == 0
    assert "no readable provenance: its inputs are unknown" in capsys.readouterr().out
    weights = store.directory(kept["made"]) / "checkpoint" / "weights"
    weights.unlink()
    weights.symlink_to("weights")
    loop = "too many levels of symbolic links"
    assert cli._verify(asked, [str(kept["made"])]) == 1
    assert f"{kept['made']}: cannot be read: {weights}: {loop}\n" in capsys.readouterr().out
    with pytest.raises(StageError, match=f"^{weights}: {loop}$"):
        cli._telling(lambda *_: weights.stat().st_size)(asked, [])
    store.runs.rename(store.root / "gone")
    store.runs.symlink_to("runs")
    assert execute(["list", f"store.root={quoted(store.root)}"]) == 1
    assert capsys.readouterr().err == f"runner: {store.runs}: {loop}\n"


def test_a_result_that_is_deleted_while_it_is_verified_is_not_damaged(
    store: ObjectStore, kept: dict[str, Address]
) -> None:
    (one,) = Inventory(store, retention_of).find(kept["made"].key)
    assert cli._compare(one, lambda _: shutil.rmtree(one.directory, ignore_errors=True)) == []


def test_a_list_that_nobody_reads_to_its_end_ends(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = cli._Asked(store, Inventory(store, retention_of))
    source, target = os.pipe()
    os.close(source)
    with os.fdopen(target, "wb", buffering=0) as raw:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, write_through=True))
        with pytest.raises(BrokenPipeError):
            cli._telling(cli._list)(asked, [])
