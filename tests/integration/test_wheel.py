"""The wheel carries its configuration and works far from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory the built wheel is unpacked into."""
    work = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", work],
        cwd=CHECKOUT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = work.glob("quant_runner-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "site")
    return work / "site"


def runner(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "runner", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(installed)}, text=True, check=False,
        capture_output=True,
    )  # fmt: skip


def test_the_wheel_holds_every_configuration_file(installed: Path) -> None:
    for folder in ("conf", "sweeps"):
        shipped = {p.relative_to(CHECKOUT) for p in (CHECKOUT / folder).rglob("*.*")}
        inside = installed / "runner"
        assert shipped == {p.relative_to(inside) for p in (inside / folder).rglob("*.*")}


def test_the_wheel_composes_from_another_directory(installed: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import runner; print(runner.__file__)"],
        env={**os.environ, "PYTHONPATH": str(installed)}, text=True, capture_output=True,
        check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed))
    shown = runner(installed, tmp_path, "--cfg", "job", "method=rtn", "bits=w3a16")
    assert shown.returncode == 0, shown.stderr
    assert "num_bits: 3" in shown.stdout
    assert "first_look" in runner(installed, tmp_path, "--help").stdout
    sweep = runner(installed, tmp_path, "-cn", "first_look", "--cfg", "hydra")
    assert "round_to_nearest" in sweep.stdout


def test_a_users_own_configuration_is_found(installed: Path, tmp_path: Path) -> None:
    own = tmp_path / "conf" / "model"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("name: mine\nkind: local\npath: /models/mine\n")
    shown = runner(installed, tmp_path, "--cfg", "job", "model=mine")
    assert shown.returncode == 0, shown.stderr
    assert "name: mine" in shown.stdout
