"""What a store says of itself, and what it gives up."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from runner.cli.store import execute
from runner.config.compose import quoted
from runner.pipeline.stages import retention_of
from runner.store.files import write_json_atomically
from runner.store.inventory import Inventory
from runner.store.objects import RESULT_FILE, Address, ObjectStore
from runner.store.provenance import SEAL_FILE, faults, read_seal, write_seal
from runner.store.records import RunRecord, StageRecord, Status, write_record

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
