"""Where a command line may be given: any folder, any terminal, any user."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Called, here, records

pytestmark = pytest.mark.integration

PYTHONS = ("contextlib", "typing")
"""Modules that `python -m` imports itself, before anything of ours is there to prevent it."""
STANDARD = ("json", "random", "uuid", "argparse", "datetime", "bz2", "sitecustomize",
            "usercustomize")  # fmt: skip
LIBRARIES = ("torch", "transformers", "numpy", "wandb", "hydra", "omegaconf", "yaml", "rich",
             "submitit", "hydra_plugins/mine")  # fmt: skip
QUICK = ("model=tiny", "eval=quick", "group_size=g32", "tracker=none")


def hostile(folder: Path, *modules: str) -> None:
    """Fill a folder with code and settings that must have no effect."""
    touched = "import pathlib; pathlib.Path(__file__ + '.touched').touch(); raise SystemExit('no')"
    for name in modules:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(touched)
    nonsense = {
        ".env": "GUIDELLM__LOGGING__DISABLED=maybe", ".python-version": "2.7", "uv.toml": "no=[",
        "pyproject.toml": "[tool.uv\n", "setup.cfg": "[", "pip.conf": "[",
        "wandb/settings": "[default]\nmode = disabled\nbase_url = http://127.0.0.1:9\n",
    }  # fmt: skip
    for name, content in nonsense.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)


def test_a_run_where_nothing_is_as_usual(
    environment: dict[str, str], store: Path, tmp_path: Path
) -> None:
    # Modules and settings of somebody else's project, an ASCII terminal, a user without a home.
    hostile(tmp_path, "runner", *PYTHONS, *STANDARD, *LIBRARIES)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("defaults: [model: mine]\nlearning_rate: 0.1\n")
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("layers: 3\n")
    variables = {**environment, "PYTHONIOENCODING": "ascii", "PYTHONPATH": ""}
    variables.pop("HOME")
    done = subprocess.run(
        [Path(sys.executable).with_name("runner"), *QUICK[:-1], "-m", "method=rtn",
         "stages=[quantize,eval]", "sweep=unusual"],
        cwd=tmp_path, env=variables, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert "* Pareto-optimal" in done.stdout.decode("ascii")
    assert [record["status"] for record in records(store, "unusual")] == ["ok"]
    assert not list(tmp_path.rglob("*.touched"))


def test_as_a_module_it_takes_none_of_the_working_directory(tmp_path: Path) -> None:
    hostile(tmp_path, *STANDARD, *LIBRARIES)
    for words in (["--cfg", "job"], ["env", "list", "store.root=store"]):
        done = subprocess.run(
            [sys.executable, "-m", "runner", *words], cwd=tmp_path,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.touched"))


@pytest.mark.parametrize(
    "words",
    [
        ("method=nope",),
        ("stages=[]",),
        ("-m", "method=rtn,nope"),
        ("-m", "method=rtn", "sweep=../up"),
        ("stages=[report]", "sweep=nope"),
        ("stages=[compare]", "compare.a=x", "compare.b=y"),
        ("method=none", "dry_run=true"),
        ("-m", "method=none", "dry_run=true"),
        ("--cfg", "job"),
    ],
    ids=" ".join,
)
def test_what_runs_nothing_leaves_no_folder(
    words: tuple[str, ...], command: Callable[..., Called], tmp_path: Path
) -> None:
    command(*QUICK, *words)
    assert not list(tmp_path.iterdir())


def test_a_working_directory_that_takes_no_files(
    environment: dict[str, str], store: Path, tmp_path: Path
) -> None:
    closed = Path("/proc")  # where not even root makes files
    made = ("method=none", "stages=[eval]", "sweep=closed")
    assert here(*QUICK, *made, cwd=closed, variables=environment).returncode == 0
    assert here(*QUICK, "-m", *made, cwd=closed, variables=environment).returncode == 0
    done = here("stages=[report]", "sweep=closed", cwd=closed, variables=environment)
    assert done.returncode == 0, done.stderr
    assert str(store / "runs" / "closed" / "report.html") in done.stdout
