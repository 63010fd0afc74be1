"""Jobs that want the same at once, a full disk, a store that is closed."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import Called, records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

CHECKPOINTS = ("method=none", "bits=fp16,fp32", "model.seed=0,1")
"""Four that are made in no time: casts of two models."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty store, on a disk of its own where this user may mount one."""
    place = tmp_path_factory.mktemp("disk")
    mounted = _mount("-t", "tmpfs", "-o", "size=100m", "tmpfs", str(place))
    yield place / "store"
    if mounted:
        subprocess.run(["umount", "--lazy", place], check=False)


def _mount(*arguments: str) -> bool:
    command = ["mount", *arguments]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


@pytest.fixture
def arguments(prose: Path) -> tuple[str, ...]:
    """A run that takes little time, on a text that is at hand."""
    return ("model=tiny", *CHECKPOINTS, "eval=quick", "text@eval.text=local",
            f"eval.text.path={quoted(prose)}", "eval.context_length=64",
            "tracker=none")  # fmt: skip


@pytest.fixture
def at_once(
    process: Callable[..., Called], store: Path, arguments: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Records of eight jobs that want four checkpoints at the same time, made on an empty store."""
    shutil.rmtree(store, ignore_errors=True)
    done = process("-m", *arguments, "eval.windows=2,3", "stages=[quantize]", "sweep=at-once",
                   "hydra/launcher=submitit_local", "hydra.launcher.max_concurrent=8")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return records(store, "at-once")


def test_eight_jobs_at_once_make_four_checkpoints(
    at_once: list[dict[str, Any]], store: Path
) -> None:
    made = [s["key"] for r in at_once for s in r["stages"] if not s["reused"]]
    found = [s["key"] for r in at_once for s in r["stages"]]
    assert len(found) == 8
    assert len(made) == len(set(made)) == len(set(found)) == 4
    assert {path.name for path in (store / "objects" / "quantize").iterdir()} == set(made)


def test_a_full_disk_and_a_closed_one_lose_nothing(
    process: Callable[..., Called],
    store: Path,
    arguments: tuple[str, ...],
    at_once: list[dict[str, Any]],
) -> None:
    if not store.parent.is_mount():
        pytest.skip("mounting a small disk needs root")
    assert at_once
    before = {path: path.read_bytes() for path in (store / "objects").rglob("*.safetensors")}
    filler = store.parent / "filler"
    with filler.open("wb") as file:
        room = shutil.disk_usage(store).free - 300_000
        while file.tell() < room:
            file.write(bytes(100_000))
    full = process(*arguments[:2], "bits=fp32", "model.seed=0", *arguments[4:], "stages=[quantize]",
                   "force=[quantize]", "sweep=full")  # fmt: skip
    assert full.returncode == 1, full.stderr
    assert full.stderr.count("no room to write in the store") == 1, full.stderr
    assert "Traceback" not in full.stderr
    assert all(path.read_bytes() == content for path, content in before.items())
    filler.unlink()
    assert _mount("-o", "remount,ro", str(store.parent))
    try:
        closed = process("-m", *arguments, "stages=[quantize]", "sweep=at-once")
        told = process("stages=[report]", "sweep=at-once")
    finally:
        assert _mount("-o", "remount,rw", str(store.parent))
    assert closed.returncode == 2
    assert closed.stderr.count("cannot be written to (read-only file system)") == 1, closed.stderr
    assert "Traceback" not in closed.stderr
    assert told.returncode == 0, told.stderr
    assert "none-fp32" in told.stdout
