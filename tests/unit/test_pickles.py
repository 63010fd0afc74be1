"""Pickled weights become the same tensors in safetensors, as data alone, or are refused."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runner.config.schema.model import Model, ModelKind
from runner.data.models import pickled_file
from runner.data.models.pickled_file import require_data
from runner.data.models.pickles import write_unpickled
from runner.data.models.weights import INDEX, PICKLED, SINGLE, complaint, weight_files
from runner.errors import StageError, UsageError
from tests.hostile_files import CONFIG

pytestmark = pytest.mark.unit

EVEN = torch.arange(8, dtype=torch.float16)
SHARDS = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]


def written(place: Path, *shards: Any, options: dict[str, Any] | None = None, **said: Any) -> Path:
    """What becomes of a model of these pickles: one, or several of an index."""
    directory, made = place / "model", place / "made"
    directory.mkdir()
    made.mkdir()
    (directory / "config.json").write_text(json.dumps({**CONFIG, **said}))
    names = SHARDS if len(shards) > 1 else [PICKLED]
    for name, content in zip(names, shards, strict=True):
        torch.save(content, directory / name, **(options or {}))
    if len(shards) > 1:
        places = {key: name for name, held in zip(names, shards, strict=True) for key in held}
        (directory / f"{PICKLED}.index.json").write_text(json.dumps({"weight_map": places}))
    model = Model(name="m", kind=ModelKind.local, path=str(directory), allow_pickle=True)
    write_unpickled(model, made, place / "cache")
    return made


@pytest.mark.parametrize("packed", [True, False])
def test_tensors_come_back_as_they_were_from_either_layout_of_torch(
    packed: bool, tmp_path: Path
) -> None:
    content = {"a": EVEN, "b": EVEN[::2], "c": torch.ones(2, 3).T}
    options = {"_use_new_zipfile_serialization": packed}
    found = load_file(written(tmp_path, content, options=options) / SINGLE)
    assert found.keys() == content.keys()
    assert all(found[name].equal(tensor) for name, tensor in content.items())


@pytest.mark.parametrize(("tied", "names"), [(True, ["a", "view"]), (False, ["a", "b", "view"])])
def test_the_second_name_of_a_tied_tensor_is_left_out(
    tied: bool, names: list[str], tmp_path: Path
) -> None:
    content = {"a": EVEN, "b": EVEN, "view": EVEN[:4]}
    made = written(tmp_path, content, tie_word_embeddings=tied)
    assert sorted(load_file(made / SINGLE)) == names


def test_shards_have_an_index_and_the_config_no_longer_names_pickles(tmp_path: Path) -> None:
    made = written(tmp_path, {"a": EVEN}, {"b": EVEN[:2]})
    index = json.loads((made / INDEX).read_text())
    assert index["metadata"]["total_size"] == 16 + 4
    assert {name: load_file(made / file)[name].tolist() for name, file in
            index["weight_map"].items()} == {"a": EVEN.tolist(), "b": [0, 1]}  # fmt: skip
    (tmp_path / "named").mkdir()
    made = written(tmp_path / "named", {"a": EVEN}, transformers_weights=PICKLED)
    assert json.loads((made / "config.json").read_text()) == CONFIG


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        (({"a": EVEN, "c": EVEN}, {"a": EVEN}), "2.bin contains a, which another file of the"),
        (([EVEN],), "contains no named tensors, but a list"),
        (({},), "contains no named tensors, but a dict"),
        (({"a": 1},), "contains a, which is not a plain tensor but a int"),
        (({3: EVEN},), "contains 3, which is not a plain tensor"),
        (({"a": torch.eye(2).to_sparse()},), "contains a, which is not a plain tensor but a Ten"),
        (({"a": torch.zeros(1, dtype=torch.complex128)},), "cannot be stored as .*complex128"),
        (
            ({"a": torch.nn.functional.relu},),
            r"not loaded: it would call torch\.nn\.functional\.re",
        ),
    ],
)
def test_what_is_no_plain_tensor_is_refused(
    shards: tuple[Any, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=said):
        written(tmp_path, *shards)


def test_an_index_of_pickles_and_safetensors_is_refused(tmp_path: Path) -> None:
    places = {"a": SHARDS[0], "b": "b.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    said = f"{INDEX} that names pickles beside safetensors"
    assert said in (complaint(tmp_path, allow_pickle=True) or "")
    places = dict.fromkeys("ab", SHARDS[0])
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    assert weight_files(tmp_path, pickles=True) == [tmp_path / SHARDS[0]]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_reason_of_torch_is_told_without_its_advice_to_trust_the_file(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"was not loaded: Unsupported operand \d+$"):
        written(tmp_path, {"a": 1}, options={"pickle_protocol": 4})


def test_pickles_are_not_opened_by_a_torch_that_could_run_their_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(StageError, match=r"not opened with torch 2\.5\.1\+cpu: .* since 2\.6"):
        written(tmp_path, {"a": EVEN})


def damaged(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("archive/data.pkl", pickle.dumps({}, 2)[:-1])


def without_a_pickle(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("archive/version", "3")


def of_protocol_4(file: Path) -> None:
    # The same name of a package is written once, and looked up by its number from then on.
    torch.save({"a": EVEN, "b": EVEN.float()}, file, pickle_protocol=4)


def large(file: Path) -> None:
    torch.save({"a" * 300: EVEN}, file)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (damaged, "is damaged, or not written by torch"),
        (without_a_pickle, "is damaged, or not written by torch"),
        (of_protocol_4, "is pickled by protocol 4 or later.*save it by torch.save alone"),
        (large, "has a pickle of 0 MB"),
    ],
)
def test_a_file_that_torch_would_not_read_as_data_is_told_before(
    make: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickled_file, "_MOST_PICKLE_BYTES", 300)
    make(tmp_path / PICKLED)
    with pytest.raises(UsageError, match=said):
        require_data(tmp_path / PICKLED)
