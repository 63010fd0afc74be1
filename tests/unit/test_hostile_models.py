"""Directories that are no models are refused at once, by the way that every run takes."""

import errno
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.config.schema.model import Model, ModelKind
from runner.config.schema.root import Config
from runner.data.models.fingerprint import fingerprint
from runner.data.models.locate import locate
from runner.data.models.view import only_read
from runner.errors import UsageError
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import Machine
from runner.util import given
from runner.util.given import FileFault, open_regular, read_bytes
from runner.validation.check import check
from runner.validation.verdict import Verdict
from tests.hostile import HOSTILE, hostile_directories
from tests.hostile_files import CONFIG, SINGLE, sound, trap, write
from tests.unit.judging import Compose, illegal_ones

pytestmark = pytest.mark.unit


def local(directory: Path) -> Model:
    return Model(name="local", kind=ModelKind.local, path=str(directory))


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return dict(hostile_directories(tmp_path_factory.mktemp("hostile")))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of files that are opened meanwhile, by whatever way."""
    names: list[str] = []
    kept = os.open

    def noting(path: object, *arguments: int, **options: int) -> int:
        names.append(os.path.realpath(str(path)))
        return kept(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", noting)
    yield names


_KEPT: list[Config] = []
"""The command line's configuration: it is the same for every directory."""


def judged(model: Model, composed: Compose, cpu: Machine) -> list[Verdict]:
    """What legality says of a run with a model that must not be."""
    if not _KEPT:
        _KEPT.append(composed("model=local", "model.path=/", "stages=[eval]", "eval=quick"))
    config = replace(_KEPT[0], model=model)
    return illegal_ones(check(config, gather_facts(config, cpu, [])))


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_at_once_with_one_sentence_that_names_the_file(
    name: str, directories: dict[str, Path], composed: Compose, cpu: Machine, opened: list[str]
) -> None:
    directory, one = directories[name], HOSTILE[name]
    model = replace(local(directory), allow_pickle=one.allow_pickle)
    try:
        (found,) = judged(model, composed, cpu)
    except UsageError as error:
        said = str(error)
    else:
        said = str(found)
    assert one.named in said
    assert said.isprintable()
    assert len(said) < 900
    assert not {name for name in opened if "secret" in name or name.startswith("/dev")}
    assert not (directory.parent / "sprung").exists()


def test_a_sound_directory_is_taken(tmp_path: Path, composed: Compose, cpu: Machine) -> None:
    assert judged(local(sound(tmp_path / "model")), composed, cpu) == []


def test_libraries_see_what_is_read_and_nothing_else(tmp_path: Path) -> None:
    directory = sound(tmp_path / "model")
    assert only_read(directory, tmp_path / "cache") == directory
    for name in ("README.md", "LICENSE", "picture.png", ".gitattributes"):
        (directory / name).write_text("for people")
    assert only_read(directory, tmp_path / "cache") == directory
    trap(directory / "pytorch_model.bin")
    for name in ("vocab.pkl", "modeling_mine.py", "sitecustomize.py", "training_args.bin", "x.so"):
        (directory / name).write_bytes(b"not looked at")
    (directory / "original").mkdir()
    (directory / "chat_templates").mkdir()
    (directory / "chat_templates" / "tools.jinja").write_text("{{ messages }}")
    (directory / "chat_templates" / "run.py").write_text("")
    seen = only_read(directory, tmp_path / "cache")
    assert sorted(path.relative_to(seen).as_posix() for path in seen.rglob("*.*")) == [
        "chat_templates/tools.jinja", "config.json", SINGLE, "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert sorted(path.name for path in seen.iterdir() if not path.suffix) == [
        "LICENSE", "chat_templates",
    ]  # fmt: skip
    assert seen.name == directory.name
    trusting = only_read(directory, tmp_path / "cache", trust_remote_code=True)
    assert (trusting / "modeling_mine.py").is_file()
    assert not (trusting / "pytorch_model.bin").exists()
    assert not (trusting / "vocab.pkl").exists()


@pytest.mark.parametrize(
    "said",
    [
        {"tokenizer_file": "/etc/passwd"}, {"vocab_file": "../secret"},
        {"special_tokens_map_file": "/home/somebody/special_tokens_map.json"},
        {"fast_tokenizer_files": ["../tokenizer.4.0.json"]}, {"merges_file": ["x", 3]},
    ],
)  # fmt: skip
def test_files_that_a_tokenizers_settings_name_elsewhere_are_not_told_to_libraries(
    said: dict[str, object], tmp_path: Path
) -> None:
    directory = sound(tmp_path / "model")
    kept = {"tokenizer_class": "PreTrainedTokenizerFast", "vocab_file": "vocab.json"}
    write(directory / "tokenizer_config.json", {**kept, **said})
    seen = only_read(directory, tmp_path / "cache")
    assert seen != directory
    found = json.loads((seen / "tokenizer_config.json").read_text())
    assert found == {name: value for name, value in kept.items() if name not in said}
    assert (seen / SINGLE).resolve() == directory / SINGLE


def test_a_snapshot_of_the_hub_may_link_to_the_blobs_of_its_own_repository(tmp_path: Path) -> None:
    made = sound(tmp_path / "made")
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(made.iterdir())):
        path.rename(blobs / f"{number}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert locate(local(snapshot)) == snapshot
    assert fingerprint(local(snapshot), tmp_path / "cache")
    other = tmp_path / "hub" / "models--other--name" / "blobs"
    other.mkdir(parents=True)
    (snapshot / "tokenizer.json").unlink()
    write(other / "0", {})
    (snapshot / "tokenizer.json").symlink_to("../../../models--other--name/blobs/0")
    with pytest.raises(UsageError, match=r"tokenizer\.json is a link to .*, outside the directory"):
        locate(local(snapshot))


def test_settings_that_are_usual_are_no_faults(tmp_path: Path) -> None:
    directory = sound(tmp_path / "model")
    config = {
        **CONFIG,
        "time_step_limit": [0.0, float("inf")],
        "n_inner": None,
        "sliding_window": 0,
    }
    write(directory / "config.json", {**config, "vision_config": {"num_hidden_layers": 4}})
    (directory / "trainer_state.json").write_text('{"loss": NaN}')
    write(directory / "tokenizer_config.json", {"a": 1, "model_max_length": 10**30})
    assert locate(local(directory)) == directory


@pytest.mark.parametrize(
    "path",
    ["~nobody-of-this-name/model", "a" * 5000, "a\0b", "/dev/zero", "/dev/null", "/proc/self/mem"],
)
def test_paths_that_are_no_directories_are_told(path: str) -> None:
    with pytest.raises(UsageError) as found:
        locate(local(Path(path)))
    assert str(found.value).isprintable()
    assert len(str(found.value)) < 400


def test_a_file_that_may_not_be_read_or_was_exchanged_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileFault, match="is not a valid file name"):
        open_regular(Path("a\0b"))
    with pytest.raises(FileFault, match="cannot be read: permission denied"):
        open_regular(Path("/proc/sys/vm/drop_caches"))  # not even root may
    os.mkfifo(pipe := tmp_path / "pipe")
    monkeypatch.setattr(given, "require_regular", Path.stat)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileFault, match="is a named pipe"):
        open_regular(pipe)
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "it is closed again"


def test_a_file_is_read_up_to_a_limit_and_a_disk_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "config.json").write_bytes(b"{}" + b" " * 998)
    assert len(read_bytes(path, 1000)) == 1000
    with pytest.raises(FileFault, match=r"is larger than 0\.000999 MB, the limit for such a file"):
        read_bytes(path, 999)

    class Failing(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "a disk that fails")

    monkeypatch.setattr(given, "open_regular", Failing)
    with pytest.raises(FileFault, match="cannot be read: Input/output error"):
        read_bytes(path, 1000)
