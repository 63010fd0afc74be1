"""Files out of packages: a hand-made index stands for the real one."""

import hashlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from runner.data import packages
from runner.data.packages import Member, _unpack, fetch_joined, fetch_member, fetch_tree
from runner.errors import StageError

pytestmark = pytest.mark.unit

MEMBER = "demo_texts/data/story.txt"
CONTENT = b"Once upon a time.\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all pip can see."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())  # blanks would part it
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def add_wheel(
    index: Path, tag: str = "py3-none-any", content: bytes = CONTENT, name: str = "demo_texts"
) -> Path:
    wheel = index / f"{name}-1.0-{tag}.whl"
    information = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{information}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        archive.writestr(f"{information}/RECORD", "")
    return wheel


def fetch(cache: Path, sha256: str = SHA256, member: str = MEMBER) -> Path:
    return fetch_member("demo-texts", "1.0", member, sha256, cache)


@pytest.mark.parametrize(
    "tag",
    [
        "py3-none-any",
        # Of another interpreter and system than this one may be: it is read, not run.
        "cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64",
        "cp311-cp311-manylinux2014_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
    ],
)
def test_member_of_a_wheel_is_kept_and_the_archive_is_not(
    index: Path, tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    run = subprocess.run

    def counted(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    add_wheel(index, tag)
    cache = tmp_path / "cache"
    path = fetch(cache)
    assert path == cache / "packages" / "demo-texts-1.0" / SHA256[:12] / "story.txt"
    assert path.read_bytes() == CONTENT
    left = {child.name for child in cache.rglob("*") if child.is_file()}
    assert left - {"story.lock"} == {"story.txt"}
    # Found as a wheel of the fixed platform, not as whatever this machine would install.
    assert len(asked) == 1


def test_second_fetch_asks_no_index(index: Path, tmp_path: Path) -> None:
    wheel = add_wheel(index)
    first = fetch(tmp_path / "cache")
    wheel.unlink()
    assert fetch(tmp_path / "cache") == first


def test_other_checksum_is_refused_and_nothing_kept(index: Path, tmp_path: Path) -> None:
    add_wheel(index, content=b"Something else.\n")
    found = hashlib.sha256(b"Something else.\n").hexdigest()
    with pytest.raises(StageError, match=f"{found}.*{SHA256}.*not kept"):
        fetch(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("story.txt"))


def parts(member: str = MEMBER) -> list[Member]:
    return [Member("demo-one", "1.0", MEMBER), Member("demo-two", "1.0", member)]


def test_parts_of_several_packages_are_joined_in_order(index: Path, tmp_path: Path) -> None:
    add_wheel(index, name="demo_one", content=CONTENT[:5])
    add_wheel(index, name="demo_two", content=CONTENT[5:])
    path = fetch_joined(parts(), "whole.txt", SHA256, tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    left = {child.name for child in (tmp_path / "cache").rglob("*") if child.is_file()}
    assert left - {"whole.lock"} == {"whole.txt"}
    with pytest.raises(StageError, match=r"2 parts from .* of demo-two 1\.0 .* of demo-one.*kept"):
        fetch_joined(parts()[::-1], "whole.txt", SHA256, tmp_path / "other")
    assert not list((tmp_path / "other").rglob("whole.txt"))


def test_part_that_is_not_there_is_named(index: Path, tmp_path: Path) -> None:
    add_wheel(index, name="demo_one")
    with pytest.raises(StageError, match=r"demo-two 1\.0 cannot be downloaded"):
        fetch_joined(parts(), "whole.txt", SHA256, tmp_path / "cache")
    add_wheel(index, name="demo_two")
    with pytest.raises(StageError, match=r"demo_two-1\.0.*has no file missing\.part"):
        fetch_joined(parts("missing.part"), "whole.txt", SHA256, tmp_path / "cache")


def test_missing_member_is_named(index: Path, tmp_path: Path) -> None:
    add_wheel(index)
    with pytest.raises(StageError, match=re.escape("no file demo_texts/other.txt")):
        fetch(tmp_path / "cache", member="demo_texts/other.txt")


def test_missing_package_names_the_settings_that_help(index: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"demo-texts==1\.0.*PIP_INDEX_URL.*PIP_FIND_LINKS"):
        fetch(tmp_path / "cache")


def test_source_archive_is_taken_where_there_is_no_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pip runs a source archive's build to learn its name, which needs an index with setuptools;
    # so pip's answers are given here: no wheel, then the archive.
    asked: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if "--only-binary=:all:" in command:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: no wheel")
        target = next(part for part in command if part.startswith("--dest=")).partition("=")[2]
        with tarfile.open(Path(target) / "demo_texts-1.0.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo(f"demo_texts-1.0/{MEMBER}")
            entry.size = len(CONTENT)
            archive.addfile(entry, io.BytesIO(CONTENT))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert fetch(tmp_path / "cache").read_bytes() == CONTENT
    assert len(asked) == 2
    assert "--no-binary=demo-texts" in asked[1]
    assert all("--no-deps" in command and "--no-input" in command for command in asked)


def archive_of(path: Path, *entries: tuple[str, bytes | None]) -> str:
    """A source archive of files, and of folders where there is no content; returns its sha256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(f"demo_texts-1.0/{name}")
            entry.size = len(content or b"")
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(content or b""))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[Path]]:
    """Digest of an archive that pip gives, and where it was put each time."""
    archive = tmp_path / "demo_texts-1.0.tar.gz"
    digest = archive_of(archive, ("a", None), ("a/none", None), ("a/one.txt", b"1"))
    given: list[Path] = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        target = next(part for part in command if part.startswith("--dest=")).partition("=")[2]
        given.append(Path(shutil.copy(archive, target)))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    return digest, given


def test_a_tree_is_kept_and_fetched_again_when_it_is_damaged(
    source: tuple[str, list[Path]], tmp_path: Path
) -> None:
    digest, given = source

    def tree(prefix: str = "a", sha256: str = digest) -> Path:
        return fetch_tree("demo-texts", "1.0", (prefix,), sha256, tmp_path / "cache")

    place = tree()
    assert sorted(path.name for path in (place / "a").iterdir()) == ["none", "one.txt"]
    assert (place / "a" / "none").is_dir()
    assert (tree(), len(given)) == (place, 1)
    (place / "a" / "one.txt").write_bytes(b"2")
    assert (tree(), len(given)) == (place, 2)
    assert (place / "a" / "one.txt").read_bytes() == b"1"
    with pytest.raises(StageError, match=f"has sha256 {digest}, expected {'0' * 64}; it was not"):
        tree(sha256="0" * 64)
    with pytest.raises(StageError, match=r"demo_texts-1\.0\.tar\.gz has no b$"):
        fetch_tree("demo-texts", "1.0", ("a", "b"), digest, tmp_path / "other")


def test_a_folder_is_no_member(source: tuple[str, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"demo_texts-1\.0\.tar\.gz has no file a/none"):
        fetch(tmp_path / "cache", member="a/none")


@pytest.mark.parametrize("kind", ["member", "tree"])
def test_what_another_process_fetched_meanwhile_is_taken(
    kind: str,
    source: tuple[str, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lock is had only when the other one is done."""
    digest, given = source
    sha256 = hashlib.sha256(b"1").hexdigest()

    def get() -> Path:
        if kind == "tree":
            return fetch_tree("demo-texts", "1.0", ("a",), digest, tmp_path / "cache")
        return fetch(tmp_path / "cache", sha256, "a/one.txt")

    class Waiting(packages.FileLock):
        def __enter__(self) -> Any:
            monkeypatch.undo()
            monkeypatch.setattr(subprocess, "run", pip)
            found.append(get())
            return super().__enter__()

    pip, found = subprocess.run, list[Path]()
    monkeypatch.setattr(packages, "FileLock", Waiting)
    assert get() == found[0]
    assert len(given) == 1


def test_pip_is_this_interpreters_or_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert packages._pip() == [sys.executable, "-m", "pip"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageError, match=f"pip is needed to download packages; {sys.executable}"):
        packages._pip()
    (tmp_path / "pip").touch(0o755)
    assert packages._pip() == [str(tmp_path / "pip")]


def test_a_tree_of_a_source_archive_is_unpacked_and_nothing_outside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By content alone: Python 3.11.2 knows none of tarfile's filters."""
    archive_path = tmp_path / "demo_texts-1.0.tar.gz"
    with tarfile.open(archive_path, "w:gz") as archive:
        for name, content in (("a/one.txt", b"1"), ("a/deep/two.txt", b"2"), ("b/three.txt", b"3")):
            entry = tarfile.TarInfo(f"demo_texts-1.0/{name}")
            entry.size, entry.mode, entry.uid = len(content), 0o6777, 1234
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("demo_texts-1.0/a/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    _unpack(archive_path, ("a",), tmp_path / "tree")
    found = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*")}
    assert found == {"a", "a/one.txt", "a/deep", "a/deep/two.txt"}
    assert (tmp_path / "tree/a/deep/two.txt").read_bytes() == b"2"
    assert (tmp_path / "tree/a/one.txt").stat().st_mode & 0o7111 == 0, "neither run nor set-user"
    with tarfile.open(archive_path, "w:gz") as archive:
        entry = tarfile.TarInfo("demo_texts-1.0/a/../../outside.txt")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(StageError, match="has a file outside its folder"):
        _unpack(archive_path, ("a",), tmp_path / "other")
    assert not (tmp_path / "outside.txt").exists()
