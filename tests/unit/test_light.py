"""The control process stays light: no torch, and help at once."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

HEAVY = {"torch", "transformers", "scipy", "llmcompressor", "bitsandbytes", "safetensors"}


def modules_after(code: str, directory: Path) -> set[str]:
    """Top-level modules of a fresh interpreter that ran ``code``."""
    ending = "\nimport sys; print('\\n'.join(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + ending],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "hydra"),
    [
        ("import runner", False),
        ("import runner.cli.main", False),
        (
            "import sys; sys.argv[1:] = ['--help']; import runner.cli.main; runner.cli.main.main()",
            False,
        ),
        ("import runner.cli.app", True),
        (
            "from hydra import compose, initialize_config_dir\n"
            "from runner.config.compose import register, typed\n"
            "from runner.util.paths import conf_dir\n"
            "from runner.pipeline.facts import gather_facts\n"
            "from runner.planning.hardware.detect import detect\n"
            "from runner.validation.check import check\n"
            "import runner.pipeline.session, runner.pipeline.run\n"
            "register()\n"
            "with initialize_config_dir(str(conf_dir()), version_base='1.3'):\n"
            "    config = typed(compose('config'))\n"
            "check(config, gather_facts(config, detect(), []))",
            True,
        ),
    ],
    ids=["package", "entry point", "help", "application", "composition and legality"],
)
def test_nothing_heavy_is_imported(code: str, hydra: bool, tmp_path: Path) -> None:
    modules = modules_after(code, tmp_path)
    assert "runner" in modules
    assert modules & HEAVY == set()
    assert ("hydra" in modules) is hydra


def test_a_trackers_library_is_left_to_the_process_that_logs(tmp_path: Path) -> None:
    code = "import runner.reporting.observed, runner.reporting.tracking.wandb"
    assert "wandb" not in modules_after(code, tmp_path)


def test_help_comes_at_once(tmp_path: Path) -> None:
    """It needs little more than Python itself; benchmarks/startup.py tells the time."""
    code = "import sys; sys.argv[1:] = ['--help']; import runner.cli.main; runner.cli.main.main()"
    ending = "\nimport sys; print(len(sys.modules), file=sys.stderr)"
    counts = []
    for program in ("pass", code):
        done = subprocess.run(
            [sys.executable, "-c", program + ending],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        counts.append(int(done.stderr))
    assert "Config groups" in done.stdout
    assert counts[1] - counts[0] < 250
