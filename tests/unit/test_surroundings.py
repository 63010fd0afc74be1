"""Terminals without our characters, users without a home, folders without room."""

import io
import os
import re
import sys
from pathlib import Path

import pytest

from runner.config import output_folder as output
from runner.errors import UsageError
from runner.util.paths import conf_dir
from runner.util.surroundings import expanded, for_children, for_workers, settle, takes_files

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """``settle`` changes the process's variables."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r"])
def test_every_character_of_ours_can_be_written_to_any_terminal(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    settle()
    sources = "".join(path.read_text("utf-8") for path in conf_dir().parent.rglob("runner/**/*.py"))
    ours = "".join(sorted(set(re.findall(r"[^\x00-\x7f]", sources))))
    stream.write(ours + "é 模型 ⠋ ┏━┓ \udcff 🙂")
    stream.flush()
    assert written.getvalue().decode(encoding)


def test_characters_degrade_to_what_is_read_as_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", stream := io.TextIOWrapper(written, encoding="ascii"))
    settle()
    stream.write("★ 7.1 ± 0.2 → Caffè… 模│⠋")
    stream.flush()
    assert written.getvalue() == b"* 7.1 +/- 0.2 -> Caffe... \\u6a21|."


def test_a_terminal_that_has_them_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", stream := io.TextIOWrapper(written, encoding="utf-8"))
    settle()
    stream.write("★ ±")
    stream.flush()
    assert written.getvalue().decode() == "★ ±"


def test_children_import_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["/somewhere/bin", str(conf_dir().parent)])
    monkeypatch.setenv("HOME", str(tmp_path))
    os.environ["PYTHONPATH"] = os.pathsep.join(["", "/mine", ".", "relative"])
    variables = for_children()
    assert variables["PYTHONSAFEPATH"] == "1"
    assert variables["PYTHONPATH"].split(os.pathsep)[-2:] == [
        "/mine",
        str(Path("relative").absolute()),
    ]
    assert not {"", "."}.intersection(variables["PYTHONPATH"].split(os.pathsep))
    del os.environ["PYTHONPATH"]
    assert "PYTHONPATH" not in for_children()
    monkeypatch.setattr(sys, "path", [str(conf_dir().parent)])
    place = Path(for_children()["PYTHONPATH"])
    assert [one.name for one in place.iterdir()] == ["runner"], "a checkout, and nothing beside it"
    assert (place / "runner").resolve() == conf_dir().parent / "runner"


def test_a_home_that_cannot_be_written_to_is_replaced_for_workers(tmp_path: Path) -> None:
    os.environ["HOME"] = str(tmp_path)
    os.environ["USER"] = "somebody"
    assert for_workers(tmp_path / "spare") == {}
    os.environ["HOME"] = str(tmp_path / "missing")
    assert for_workers(tmp_path / "spare") == {"HOME": str(tmp_path / "spare")}
    assert takes_files(tmp_path / "spare")


def test_a_user_without_name_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        os.environ.pop(name, None)

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert set(for_workers(tmp_path / "spare")) == {"HOME", "USER"}
    assert expanded("/data/store") == "/data/store"
    with pytest.raises(UsageError, match="QUANT_RUNNER_STORE"):
        expanded("~/.cache/quant-runner")


def test_a_working_directory_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        with pytest.raises(UsageError, match="working directory is gone"):
            settle()
    finally:
        os.chdir(tmp_path)  # monkeypatch asks where it is


@pytest.mark.parametrize("name", ["outputs", "multirun"])
def test_hydras_folder_goes_when_nothing_is_in_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert output.chosen(name) == name
    folder = tmp_path / name / "2026-01-01" / "00-00-00"
    (folder / "0").mkdir(parents=True)
    assert output.for_copies(folder) == folder
    (folder / "multirun.yaml").touch()
    output.tidy(folder, refused=False)
    assert [path.name for path in folder.iterdir()] == ["multirun.yaml"]
    output.tidy(folder, refused=True)
    assert not list(tmp_path.iterdir())


def test_what_others_left_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    output.chosen("outputs")
    folder = tmp_path / "outputs" / "2026-01-01" / "00-00-00"
    folder.mkdir(parents=True)
    output.tidy(folder, refused=True)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"], "the user's own"
    assert not list((tmp_path / "outputs").iterdir())
    elsewhere = tmp_path / "mine"
    elsewhere.mkdir()
    output.tidy(elsewhere, refused=True)
    assert elsewhere.is_dir(), "hydra.run.dir of the user's choice"


def test_a_working_directory_that_takes_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")  # neither for root
    folder = Path(output.chosen("outputs")) / "2026-01-01" / "00-00-00"
    folder.mkdir(parents=True)
    (folder / "answer.csv").touch()
    assert output.for_copies(folder) is None
    output.tidy(folder, refused=False)
    assert not folder.parent.exists()


def test_without_a_home_children_import_from_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(file))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", ["/somewhere/bin"])
    assert for_children()["PYTHONPATH"] == str(conf_dir().parent)


def test_a_home_that_is_only_read_keeps_its_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.util.surroundings.takes_files", lambda _: False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.delenv("HF_HOME", raising=False)
    (hub := tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    spare = {"HOME": str(tmp_path / "spare"), "HF_HOME": str(hub)}
    assert for_workers(tmp_path / "spare") == spare
    monkeypatch.setenv("HF_HOME", "/models")
    assert for_workers(tmp_path / "spare") == {**spare, "HF_HOME": "/models"}
