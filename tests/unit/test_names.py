"""Whatever becomes part of a path is one part of it."""

import os
from pathlib import Path

import pytest

from runner.api import compose_config
from runner.errors import UsageError
from runner.util.names import path_part, require_name

pytestmark = pytest.mark.unit

BAD = [
    "", " ", ".", "..", "../../x", "/tmp/x", "team/exp1", "a\\b", "a=b", "-n", ".hidden", " a",
    "a ",
    "a\0b", "a\nb", "a\x1b[31m", "x" * 256, "é" * 100, "e\u0301te\u0301", "\udcff", "\u202eabc",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_what_is_no_name_is_refused_and_named(name: str) -> None:
    with pytest.raises(UsageError, match="sweep=") as raised:
        require_name("sweep", name)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    suggested = message.rpartition("such as sweep=")[2]
    require_name("sweep", suggested)


@pytest.mark.parametrize(
    "name", ["exp1", "2026-11-21_12-38", "größe 2", "a+b@c", "模型", "x" * 150]
)
def test_other_names_are_taken(name: str) -> None:
    require_name("sweep", name)
    assert path_part(name) == name


@pytest.mark.parametrize("text", [*BAD, "a/b", "mine, or yours", "y" * 400], ids=ascii)
def test_a_text_becomes_one_part_of_a_path(text: str, tmp_path: Path) -> None:
    place = tmp_path / f"000-{path_part(text)}"
    place.mkdir()
    (place / "record.json").touch()
    assert [path.name for path in tmp_path.iterdir()] == [place.name]
    assert len(os.fsencode(place.name)) < 200


def test_long_texts_stay_apart() -> None:
    assert path_part("y" * 400) != path_part("y" * 401)


@pytest.mark.parametrize(
    "override",
    ["sweep=team/exp1", "sweep=../../x", "sweep=''"],
)
def test_the_configuration_is_checked_as_a_whole(override: str) -> None:
    with pytest.raises(UsageError):
        compose_config([override])


def test_a_sweep_of_a_longer_name_than_a_folders_ends_in_a_digest() -> None:
    found = compose_config(["sweep=" + "x" * 300]).sweep
    other = compose_config(["sweep=" + "x" * 301]).sweep
    assert found is not None and other is not None
    assert found != other
    require_name("sweep", found)
    asked = compose_config(["compare.a=" + "x" * 300, "report.sweeps=[" + "x" * 300 + "]"])
    assert asked.compare.a == "x" * 300


def test_an_environments_name_is_none_of_a_path() -> None:
    with pytest.raises(UsageError, match=r"environment\.default\.name=\.\./x begins|has a /"):
        compose_config(["environment.default.name=../x"])


def test_a_system_of_another_alphabet_gets_names_that_it_can_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("latin-1", "surrogateescape"))
    assert path_part("größe-模型") == "größe-__"
    with pytest.raises(UsageError, match="characters that are not allowed in file names on this"):
        require_name("sweep", "模型")
