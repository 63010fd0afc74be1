"""Models and texts that differ have names of their own, in a sweep and in the store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config.names import last_part
from runner.config.schema.root import Config
from runner.methods import used_recipe
from runner.reporting.comparable import comparable_rows
from runner.reporting.compare.find import Side
from runner.reporting.compare.pairs import pair_up
from runner.reporting.rows import rows_of
from runner.reporting.tracking.wandb_artifacts import shortened
from runner.store.distinct_names import is_same_model, tell_apart
from runner.store.records import RunRecord
from tests.unit.records import CONFIG, recipe

pytestmark = pytest.mark.unit

Compose = Callable[..., Config]


def run(
    number: int, model: str, fields: dict[str, Any], text: str | None = None, sha256: Any = None
) -> RunRecord:
    config = {
        **CONFIG,
        "model": {"name": model, **fields},
        "eval": {"text": {"name": "t.txt" if text else "wikipedia", "path": text}},
    }
    made = recipe(number, "rtn-w4a16-g32", 21.0 + number, 40.0, 100, model=model, config=config)
    made.text_sha256 = sha256
    return made


def local(number: int, path: str, name: str = "model", **text: Any) -> RunRecord:
    return run(number, name, {"kind": "local", "path": path}, **text)


def test_directories_of_one_name_are_called_by_what_sets_them_apart() -> None:
    records = [local(0, "/x/a/model"), local(1, "/x/b/model/"), local(2, "/x/a/model")]
    assert [r.model for r in tell_apart(records)] == ["a/model", "b/model", "a/model"]
    rows = rows_of(tell_apart(records))
    assert {row.model for row in rows if row.is_baseline} == {"a/model", "b/model"}
    # Nothing else is called so: the name stays.
    assert [r.model for r in tell_apart(records[::2])] == ["model", "model"]


def test_other_models_of_one_name_are_called_by_the_fields_that_differ() -> None:
    records = [run(0, "tiny", {"kind": "generated", "seed": seed}) for seed in (0, 1)]
    assert [r.model for r in tell_apart(records)] == ["tiny (seed=0)", "tiny (seed=1)"]
    records = [run(0, "o/m", {"kind": "hub", "hub_id": "o/m", "revision": r}) for r in "ab"]
    assert [r.model for r in tell_apart(records)] == ["o/m (revision=a)", "o/m (revision=b)"]
    sizes = [{"hidden_size": 64, "layers": 2, "parameters": None}, {"hidden_size": 96, "layers": 2}]
    records = [run(0, "tiny", {"kind": "generated", "architecture": one}) for one in sizes]
    assert [r.model for r in tell_apart(records)] == [
        "tiny (architecture: hidden_size=64 layers=2)",
        "tiny (architecture: hidden_size=96 layers=2)",
    ]
    # How many parameters that makes is stated or not.
    records[1].config["model"]["architecture"] = {**sizes[0], "parameters": 9}
    assert [r.model for r in tell_apart(records)] == ["tiny", "tiny"]
    # A name that the user gave to two directories, and records from before names were read off.
    records = [local(0, "/x/a", "mine"), local(1, "/x/b", "mine")]
    assert [r.model for r in tell_apart(records)] == ["mine (a)", "mine (b)"]


def test_what_lies_nowhere_keeps_its_name_beside_a_directory_of_that_name() -> None:
    hub = {"kind": "hub", "hub_id": "o/mine"}
    records = [run(0, "mine", hub), local(1, "/x/mine", "mine"), local(2, "/y/mine", "mine")]
    assert [r.model for r in tell_apart(records)] == ["mine", "mine (x/mine)", "mine (y/mine)"]
    # Two that lie nowhere, and one of them beside the other's directory.
    records = [run(0, "mine", hub), run(1, "mine", {**hub, "revision": "v2"}), records[1]]
    assert [r.model for r in tell_apart(records)] == [
        "mine (hub_id=o/mine, kind=hub)",
        "mine (hub_id=o/mine, kind=hub, revision=v2)",
        "mine (kind=local, mine)",
    ]


def test_texts_are_told_apart_by_content() -> None:
    records = [
        local(0, "/m", "m", text="/a/t.txt", sha256="11"),
        local(1, "/m", "m", text="/b/t.txt", sha256="22"),
        local(2, "/m", "m", text="a/t.txt", sha256="11"),
        local(3, "/m", "m", text="/b/t.txt"),
    ]
    rows = rows_of(tell_apart(records))
    texts = [row.text for row in rows if not row.is_baseline]
    assert texts == ["a/t.txt", "b/t.txt", "a/t.txt", "b/t.txt"]
    assert len(comparable_rows(rows)) == 2
    # One file that was written anew between two runs.
    records = [
        local(0, "/m", "m", text="t.txt", sha256=digest) for digest in ("1234567890", "abcdefghij")
    ]
    texts = [row.text for row in rows_of(tell_apart(records)) if not row.is_baseline]
    assert texts == ["t.txt (sha256=12345678)", "t.txt (sha256=abcdefgh)"]


def test_calibration_texts_are_told_apart_by_their_paths_however_written() -> None:
    def labels(*paths: str) -> list[str]:
        records = [local(0, "/m") for _ in paths]
        for record, path in zip(records, paths, strict=True):
            record.label = "rtn,calibration=t.txt"
            record.config["calibration"] = {"text": {"path": path}}
        return [one.label for one in tell_apart(records)]

    mixed = [local(0, "/m"), local(1, "/m")]
    for one, last in zip(mixed, "bc", strict=True):
        one.label = "rtn,calibration=mixed"
        sources = [{"text": {"path": f"{folder}/t.txt"}} for folder in ("a", last)]
        one.config["calibration"] = {"text": None, "sources": [*sources, {"text": "bible"}]}
    assert [one.label for one in tell_apart(mixed)] == [
        "rtn,calibration=mixed (t.txt+b/t.txt)",
        "rtn,calibration=mixed (t.txt+c/t.txt)",
    ]
    start = "rtn,calibration=t.txt"
    assert labels("a/t.txt", "b/t.txt") == [f"{start} (a/t.txt)", f"{start} (b/t.txt)"]
    assert labels("a/t.txt", "./a//t.txt") == [start, start], "one file"


def test_sides_of_a_comparison_pair_model_by_model() -> None:
    sides = [
        Side(name, [local(0, "/x/a/model"), local(1, "/x/b/model")], is_run=False)
        for name in ("before", "after")
    ]
    pairs = pair_up(*sides)
    assert [(pair.a, pair.b) for pair in pairs] == [
        ("000-rtn-w4a16-g32", "000-rtn-w4a16-g32"),
        ("001-rtn-w4a16-g32", "001-rtn-w4a16-g32"),
    ]


def test_weights_are_the_same_whatever_they_are_called() -> None:
    one = {"name": "a", "kind": "local", "path": "/x/m/"}
    assert is_same_model(one, {**one, "name": "b", "path": "/x/m"})
    assert not is_same_model(one, {**one, "path": "/y/m"})


@pytest.mark.parametrize(
    ("path", "name"),
    [("/models/mine", "mine"), ("mine/", "mine"), ("a/b.gguf", "b.gguf")],
)
def test_a_directory_names_its_model_and_a_file_its_text(
    path: str, name: str, composed: Compose
) -> None:
    config = composed(
        "model=local", f"model.path={path}", "text@eval.text=local", f"eval.text.path={path}",
        "calibration=local", f"calibration.text.path={path}",
    )  # fmt: skip
    assert (config.model.name, config.eval.text.name) == (name, name)
    assert used_recipe(config).label.endswith(f",calibration={name}")
    named = composed("model=local", f"model.path={path}", "model.name=given")
    assert named.model.name == "given"


def test_a_file_called_like_a_text_of_ours_is_told(composed: Compose) -> None:
    config = composed("calibration=local", "calibration.text.path=/a/openwebtext")
    assert used_recipe(config).label.endswith(",calibration=openwebtext")


def test_the_working_directory_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "here" / "below"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    assert (last_part("."), last_part(".."), last_part("/")) == ("below", "here", "/")
    assert last_part(None) == "local", "as --cfg job --resolve shows model=local without a path"


def test_what_is_too_long_for_wandb_keeps_a_digest() -> None:
    assert shortened("short", 64) == "short"
    long = [shortened("x" * 70 + end, 64) for end in "ab"]
    assert all(len(one) == 64 for one in long) and len(set(long)) == 2
