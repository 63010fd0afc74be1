"""Environments are made on first use, once, and whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.compose import quoted
from runner.util.paths import conf_dir
from tests.integration.conftest import Called, here, records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

CHECKOUT = conf_dir().parent

SMALL = """
# @package environment.small
# A package without dependencies, and what the runner itself needs.
name: small
provides: [nothing]
accelerators: [cpu, cuda]
requirements: [{requirement}]
self_test: [{module}]
"""

Env = Callable[..., Called]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where this test's environments lie."""
    return tmp_path / "environments"


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., None]:
    """Writes the YAML file of environment ``small``: all that adding one takes."""

    def write(requirement: str = "six==1.17.0", module: str = "six") -> None:
        folder = tmp_path / "conf" / "environment"
        folder.mkdir(parents=True, exist_ok=True)
        text = SMALL.format(requirement=requirement, module=module)
        (folder / "small.yaml").write_text(text.lstrip())

    write()
    return write


CHOSEN = "environment=[default,small]"


def command(verb: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "runner", "env", verb, *arguments, CHOSEN]


@pytest.fixture
def variables(environment: dict[str, str], root: Path) -> dict[str, str]:
    return {**environment, "QUANT_RUNNER_ENVIRONMENTS": str(root)}


@pytest.fixture
def env(variables: dict[str, str], tmp_path: Path, describe: Callable[..., None]) -> Env:
    def call(verb: str, *arguments: str) -> Called:
        return here("env", verb, *arguments, CHOSEN, cwd=tmp_path, variables=variables)

    return call


def kept(root: Path) -> list[Path]:
    """Finished environments; everything else begins with a dot."""
    return sorted(path for path in root.glob("*") if not path.name.startswith("."))


def staging(root: Path) -> list[Path]:
    return [path for path in root.glob(".small-*") if path.is_dir()]


def test_an_environment_is_made_listed_checked_and_removed(env: Env, root: Path) -> None:
    assert "absent" in env("list").stdout
    made = env("create", "small")
    assert made.returncode == 0, made.stderr
    (directory,) = kept(root)
    ready = json.loads((directory / "ready.json").read_text())
    assert ready["installed"]["six"] == "1.17.0"
    assert staging(root) == []
    listed = env("list").stdout
    assert "ready" in listed
    assert "1 on disk" in listed
    assert env("check", "small").stdout == "small: ok\n"
    again = env("create", "small")
    assert "made" not in again.stderr
    assert env("remove", "small").returncode == 0
    assert kept(root) == []


def test_changed_pins_make_an_environment_anew(
    env: Env, root: Path, describe: Callable[..., None]
) -> None:
    assert env("create", "small").returncode == 0
    describe("six==1.16.0")
    assert "outdated" in env("list").stdout
    assert env("create", "small").returncode == 0
    versions = {json.loads((d / "ready.json").read_text())["installed"]["six"] for d in kept(root)}
    assert versions == {"1.16.0", "1.17.0"}, "another process may still use the old one"
    env("remove", "small")
    assert kept(root) == []


def test_an_environment_killed_while_it_is_made_heals(
    env: Env, variables: dict[str, str], tmp_path: Path, root: Path
) -> None:
    process = subprocess.Popen(
        command("create", "small"), cwd=tmp_path, env=variables,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 500
    while not any(path.joinpath("bin").exists() for path in staging(root)):
        assert time.monotonic() < deadline, "it never started"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert kept(root) == [], "what exists is whole"
    assert staging(root), "nobody had the time to clear it away"
    healed = env("create", "small")
    assert healed.returncode == 0, healed.stderr
    assert env("check", "small").returncode == 0
    assert len(kept(root)) == 1
    assert staging(root) == []


def installs(store: Path) -> int:
    """How often the installer was called for environment ``small``; logs are appended to."""
    logs = (store / "logs").glob("environment-small-*.log")
    return sum(log.read_text().count('"pip", "install"') for log in logs)


def test_of_two_that_want_an_environment_one_makes_it(
    env: Env, variables: dict[str, str], tmp_path: Path, root: Path, store: Path
) -> None:
    before = installs(store)
    both = [
        subprocess.Popen(
            command("create", "small"), cwd=tmp_path, env=variables,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(kept(root)) == 1
    assert installs(store) == before + 1
    assert env("create", "small").returncode == 0
    assert installs(store) == before + 1


def test_a_package_that_cannot_be_had_is_said_in_one_line(
    env: Env, root: Path, describe: Callable[..., None]
) -> None:
    describe("six==99.0")
    failed = env("create", "small")
    assert failed.returncode == 1
    (line,) = failed.stderr.strip().splitlines()
    assert "environment small cannot be created" in line
    assert "six==99.0" in line
    assert kept(root) == []
    assert staging(root) == []


def test_a_broken_environment_fails_its_self_test(env: Env, describe: Callable[..., None]) -> None:
    describe(module="no_such_module")
    assert env("create", "small").returncode == 0
    checked = env("check", "small")
    assert checked.returncode == 1
    assert "No module named 'no_such_module'" in checked.stdout


def test_an_interpreter_of_ones_own_is_used_as_it_is(env: Env, root: Path) -> None:
    own = f"environment.small.python={quoted(sys.executable)}"
    assert "your interpreter" in env("list", own).stdout
    assert env("create", "small", own).returncode == 0
    assert kept(root) == [], "nothing is installed"
    wrong = env("check", "small", "environment.small.python=/no/such/python")
    assert wrong.returncode == 2
    assert "/no/such/python does not run" in wrong.stderr


def test_an_unknown_environment_is_answered_with_the_known(env: Env) -> None:
    asked = env("create", "smal")
    assert asked.returncode == 2
    assert "there is no environment smal; did you mean small?" in asked.stderr
    assert "there is no runner env destroy" in env("destroy").stderr


@pytest.fixture(scope="module")
def light_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the control process's requirements alone."""
    place = tmp_path_factory.mktemp("light") / "venv"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, place], check=True)
    python = place / "bin" / "python"
    links = [f"--find-links={link}" for link in os.environ.get("PIP_FIND_LINKS", "").split()]
    constraints = CHECKOUT / "constraints.txt"
    subprocess.run(
        [*uv, "pip", "install", "-q", "--python", python, "-c", constraints, *links, CHECKOUT],
        check=True,
    )
    return python


def test_the_control_process_needs_no_torch(
    light_python: Path, store: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    absent = subprocess.run([light_python, "-c", "import torch"], capture_output=True, check=False)
    assert absent.returncode != 0
    done = subprocess.run(
        [
            light_python, "-m", "runner", "method=rtn", "model=tiny", "group_size=g32",
            "stages=[quantize,eval]", "eval=quick", "tracker=none", "sweep=light", "model.seed=7",
        ],
        cwd=tmp_path, env={**environment, "QUANT_RUNNER_ENVIRONMENTS": str(tmp_path / "made")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, "light")
    made = {stage["environment"] for stage in record["stages"]}
    assert made == {"default"}
    assert "environment default: made" in done.stderr
