"""Where a command line may be given: any folder, any terminal, any user."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Called, here, records

pytestmark = pytest.mark.integration

QUICK = ("model=tiny", "eval=quick", "group_size=g32", "tracker=none")


def test_a_run_where_nothing_is_as_usual(
    environment: dict[str, str], store: Path, tmp_path: Path
) -> None:
    # Modules of somebody else's project, an ASCII terminal, a user without a home.
    for name in ("runner", "torch", "json", "random", "transformers", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('executed {name}.py')")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("defaults: [model: mine]\nlearning_rate: 0.1\n")
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("layers: 3\n")
    variables = {**environment, "PYTHONIOENCODING": "ascii", "PYTHONPATH": ""}
    variables.pop("HOME")
    done = subprocess.run(
        # As the script `runner`, which lies elsewhere.
        [sys.executable, "-P", "-m", "runner", *QUICK, "-m", "method=rtn",
         "stages=[quantize,eval]", "sweep=unusual"],
        cwd=tmp_path, env=variables, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert "* best trade-offs" in done.stdout.decode("ascii")
    assert [record["status"] for record in records(store, "unusual")] == ["ok"]


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
