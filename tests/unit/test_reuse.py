"""What the store keeps is used again only while it is what was written."""

import json
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from runner.config.schema.model import Model, ModelKind
from runner.data.packages import fetch_joined
from runner.errors import StageError
from runner.evaluation.metrics.reference import ReferenceWriter
from runner.pipeline.stages import retention_of
from runner.store.checked_files import read_kept
from runner.store.index import INDEX_FILE
from runner.store.inventory import Inventory
from runner.store.journal import checked_line, content_of
from runner.store.lineage import Lineage
from runner.store.objects import RESULT_FILE, Address, ObjectStore
from runner.store.partial_results import PartialResults
from runner.store.provenance import CHECK_FILE, SEAL_FILE
from runner.store.records import read_record
from tests.unit.test_inventory import put, record

pytestmark = pytest.mark.unit

WEIGHTS = Path("checkpoint") / "weights"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


@pytest.fixture
def made(store: ObjectStore) -> Address:
    """A result whose time was set back after it was sealed, and that was checked since."""
    address = put(store, "quantize", {"recipe": 1})
    rewrite(store.directory(address) / RESULT_FILE, lambda _: b'{"result": {}, "resources": {}}')
    (store.directory(address) / SEAL_FILE).unlink()
    from runner.store.provenance import write_seal

    write_seal(store.directory(address), {"recipe": 1})
    return address


def rewrite(path: Path, change: Callable[[bytes], bytes], *, keep_time: bool = False) -> None:
    before = path.stat()
    path.write_bytes(change(path.read_bytes()))
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def test_sizes_and_times_alone_tell_that_a_result_is_as_it_was(
    store: ObjectStore, made: Address
) -> None:
    assert store.is_as_checked(made)
    rewrite(store.directory(made) / WEIGHTS, flipped, keep_time=True)
    assert store.is_as_checked(made), "no digest was computed"
    assert store.faults(made) == ["checkpoint/weights has changed"], "as with store.verify=always"


def test_what_changes_after_a_look_is_seen_by_the_next(store: ObjectStore, made: Address) -> None:
    assert store.is_as_checked(made)
    rewrite(store.directory(made) / WEIGHTS, flipped)
    assert not store.is_as_checked(made)


@pytest.mark.parametrize("days", [1.1, -1.0])
def test_digests_are_compared_once_a_day(store: ObjectStore, made: Address, days: float) -> None:
    seal = store.directory(made) / SEAL_FILE
    then = time.time() - days * 86400
    os.utime(seal, (then, then))
    assert not ObjectStore(store.root).is_as_checked(made)
    assert store.faults(made) == []
    assert ObjectStore(store.root).is_as_checked(made), "and noted"


def test_a_copied_store_is_compared_once(store: ObjectStore, made: Address) -> None:
    for path in store.directory(made).rglob("*"):
        os.utime(path)
    assert not store.is_as_checked(made)
    assert store.faults(made) == []
    assert (store.directory(made) / CHECK_FILE).exists()
    assert store.is_as_checked(made)
    assert store.faults(made) == []


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights has changed": lambda place: rewrite(place / WEIGHTS, flipped),
    "weights is missing": lambda place: (place / WEIGHTS).unlink(),
    "result.json has changed": lambda place: (place / RESULT_FILE).write_text("{"),
    "result.json is missing": lambda place: (place / RESULT_FILE).unlink(),
    "seal.json cannot be read": lambda place: (place / SEAL_FILE).write_bytes(b"\0" * 9),
    "adapter_config.json was added": lambda place: (
        place / "checkpoint" / "adapter_config.json"
    ).write_text("{}"),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_a_damaged_result_is_seen_and_set_aside(
    said: str, store: ObjectStore, made: Address
) -> None:
    DAMAGES[said](store.directory(made))
    assert not store.is_as_checked(made)
    assert said in store.faults(made)[0]
    aside = store.set_aside(made)
    assert aside.parent == store.root / "damaged"
    assert not store.holds(made)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"result": 1}', "[" * 9999, "\0"])
def test_a_result_without_a_seal_must_be_one_at_least(store: ObjectStore, content: str) -> None:
    address = put(store, "eval", {"old": True}, sealed=False)
    assert store.is_as_checked(address)
    (store.directory(address) / RESULT_FILE).write_text(content)
    assert RESULT_FILE in store.faults(address)[0]


@pytest.mark.parametrize("name", ["README.md", ".nfs0001", "__pycache__/a.pyc"])
def test_what_others_leave_there_is_no_damage(name: str, store: ObjectStore, made: Address) -> None:
    path = store.directory(made) / "checkpoint" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("note")
    assert store.faults(made) == []


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-3], lambda _: b""])
def test_units_that_are_not_whole_are_computed_again(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    units = PartialResults(tmp_path)
    units.array("a", lambda: np.arange(3))
    units.value("b", lambda: {"n": 1})
    for name in ("a.npy", "b.json"):
        rewrite(tmp_path / name, damage, keep_time=True)
    again = PartialResults(tmp_path)
    assert "a" not in again
    assert again.array("a", lambda: np.arange(4)).tolist() == [0, 1, 2, 3]
    assert again.value("b", lambda: {"n": 2}) == {"n": 2}
    assert PartialResults(tmp_path).value("b", lambda: {"n": 3}) == {"n": 2}


def test_a_reference_window_that_is_not_whole_is_computed_again(tmp_path: Path) -> None:
    from runner.engines.distributions import FullDistributions

    def found() -> FullDistributions:
        logs = np.log(np.full((2, 4), 0.25, np.float32))
        return FullDistributions(4, iter([logs]))

    writer = ReferenceWriter(tmp_path, 10**6)
    for number in (0, 1):
        writer.keep(number, found(), [1, 2])
    assert not ReferenceWriter(tmp_path, 10**6).has_lost(1)
    rewrite(tmp_path / "window-00001.npy", flipped, keep_time=True)
    after = ReferenceWriter(tmp_path, 10**6)
    assert (after.has_lost(0), after.has_lost(1), after.has_lost(2)) == (False, True, False)
    (tmp_path / "form.json").write_text("")
    assert after.has_lost(0)


def test_a_line_tells_whether_it_is_whole() -> None:
    line = checked_line('["a", 1]')
    assert content_of(line) == '["a", 1]'
    assert content_of(line.replace("1]", "2]")) is None
    assert content_of('["a", 1]\n') is None


def test_a_damaged_note_is_set_aside_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "note.json"
    assert read_kept(path) is None
    for content in (b"{", b"", b"[]", b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        assert read_kept(path) is None
        assert f"{path} is damaged" in capsys.readouterr().err
    assert len(list(tmp_path.glob("note.json.damaged*"))) == 5
    model = Model(name="m", kind=ModelKind.local, path=str(tmp_path))
    lineage = Lineage(tmp_path, model, {"model": "model-files:1"})
    lineage.note()
    (written,) = (tmp_path / "lineage").glob("*.json")
    written.write_text("")
    assert lineage.made_from_other_weights() is None
    lineage.note()
    assert json.loads(written.read_text())["fingerprint"] == "model-files:1"


def lineage(of: Model, root: Path, **determinants: str) -> Lineage:
    return Lineage(root, of, {"model": "model-files:1", "recipe": "r", **determinants})


def test_weights_that_changed_in_their_place_are_told_with_the_time(tmp_path: Path) -> None:
    model = Model(name="m", kind=ModelKind.local, path=str(tmp_path / "m"))
    first = lineage(model, tmp_path)
    assert first.made_from_other_weights() is None, "nothing was made yet"
    before = datetime.now(UTC).replace(microsecond=0)
    first.note()
    (written,) = (tmp_path / "lineage").iterdir()
    made = json.loads(written.read_text())["made"]
    assert len(written.stem) == 20 and datetime.fromisoformat(made).tzinfo == UTC
    assert before <= datetime.fromisoformat(made) <= datetime.now(UTC)
    assert first.made_from_other_weights() is None
    written.write_text(json.dumps({"fingerprint": "model-files:1", "made": "earlier"}))
    first.note()
    assert "earlier" in written.read_text(), "they were these weights already"
    other = lineage(model, tmp_path, model="model-files:2", calibration_windows="w")
    assert other.made_from_other_weights() == "earlier"
    other.note()
    assert other.made_from_other_weights() is None
    again = first.made_from_other_weights()
    assert again is not None and again >= made
    assert lineage(model, tmp_path, model="content:2").made_from_other_weights() is None
    assert lineage(
        model, tmp_path, recipe="s", model="model-files:3"
    ).made_from_other_weights() is (None)


def test_a_place_is_the_folder_or_the_id_with_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(first: Model, second: Model) -> bool:
        root = tmp_path / uuid.uuid4().hex
        lineage(first, root).note()
        return lineage(second, root, model="model-files:2").made_from_other_weights() is not None

    def local(path: str) -> Model:
        return Model(name="m", kind=ModelKind.local, path=path)

    def hub(name: str, revision: str | None) -> Model:
        return Model(name="m", kind=ModelKind.hub, hub_id=name, revision=revision)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("m", "./x/../m", "~/m"):
        assert changed(local(str(tmp_path / "m")), local(path))
    assert not changed(local("m"), local("n"))
    assert changed(hub("a/b", None), hub("a/b", None))
    assert not changed(hub("a/b", None), hub("a/b", "v2"))
    assert not changed(hub("a/b", "v2"), hub("a/c", "v2"))
    for kind in (ModelKind.package, ModelKind.generated):
        fixed = Model(name="m", kind=kind)
        assert not changed(fixed, fixed), "it cannot change"


def test_a_fetched_file_is_compared_with_its_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hashlib import sha256

    from runner.data.packages import Member

    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    digest = sha256(b"text").hexdigest()
    place = tmp_path / "packages" / "demo-1.0" / digest[:12] / "a.txt"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"text")
    parts = [Member("demo", "1.0", "a.txt")]
    for _ in range(2):
        assert fetch_joined(parts, "a.txt", digest, tmp_path) == place
    place.write_bytes(b"test")
    with pytest.raises(StageError, match=r"demo 1\.0 cannot be downloaded"):
        fetch_joined(parts, "a.txt", digest, tmp_path)
    assert "a.txt is damaged" in capsys.readouterr().err
    assert not place.exists()


def test_a_record_that_was_altered_is_not_read(store: ObjectStore, made: Address) -> None:
    record(store, "s", made)
    (path,) = store.runs.glob("s/*/record.json")
    assert read_record(path) is not None
    rewrite(path, lambda content: content.replace(b'"seconds": 1.0', b'"seconds": 2.0'))
    with pytest.raises(StageError, match="was changed after it was written"):
        read_record(path)
    assert Inventory(store, retention_of).unreadable_records() == [path]
    path.write_text(json.dumps({**json.loads(path.read_text()), "label": "by hand"}))
    found = read_record(path)
    assert found is not None
    assert found.label == "by hand"


def test_the_index_follows_the_folders(store: ObjectStore, made: Address) -> None:
    record(store, "s", made)
    assert list(Inventory(store, retention_of).held) == [made]
    evaluated = put(store, "eval", {"checkpoint": made.key})
    assert Inventory(store, retention_of).used_by(made) == [evaluated]
    record(store, "t", evaluated)
    assert Inventory(store, retention_of).runs_of(evaluated) == ["t/000-l"]
    store.set_aside(evaluated)
    assert list(Inventory(store, retention_of).held) == [made]
    assert Inventory(store, retention_of).used_by(made) == []


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and no more", None])
def test_a_broken_index_is_made_anew(
    content: bytes | None, store: ObjectStore, made: Address
) -> None:
    record(store, "s", made)
    Inventory(store, retention_of)
    index = store.cache / INDEX_FILE
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert Inventory(store, retention_of).runs_of(made) == ["s/000-l"]
    index.unlink()
    index.mkdir()  # nobody can write there
    assert Inventory(store, retention_of).runs_of(made) == ["s/000-l"]


def test_a_looked_at_store_is_read_once(store: ObjectStore, made: Address) -> None:
    record(store, "s", made)
    Inventory(store, retention_of)
    # What was read before is not read again, however broken it is by now.
    (store.directory(made) / SEAL_FILE).write_text("{")
    assert Inventory(store, retention_of).held[made].is_sealed
