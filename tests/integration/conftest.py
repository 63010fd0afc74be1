"""One store for the whole session, and the command line as a user calls it."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.paths import conf_dir

TINY = ("model=tiny", "group_size=g32", "eval=quick", "bench=quick")
"""A run of the machinery: a generated model, a few windows, two short repetitions."""
SLURM = (
    "hydra/launcher=submitit_slurm", "hydra.launcher.poll_seconds=1",
    "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=10",
    "hydra.launcher.slurm_signal_delay_s=10",
)  # fmt: skip
"""Runs of a sweep as tasks of the Slurm that fixture ``slurm`` starts."""


@dataclass(frozen=True)
class Called:
    """What a command line did."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that tests share, so that models and texts are made once."""
    return tmp_path_factory.mktemp("session") / "store"


@pytest.fixture(scope="session")
def store(shared_store: Path) -> Path:
    """The store a test file works on: the shared one, unless the file has its own."""
    return shared_store


@pytest.fixture(scope="module")
def environment(store: Path) -> dict[str, str]:
    """The test process's environment with the file's store."""
    return {**os.environ, "QUANT_RUNNER_STORE": str(store)}


COMPILED = ("test_backends.py", "test_serving.py")
"""They need an environment that takes minutes to compile."""
FIRST = (
    "test_first_look.py", "test_survival.py", "test_tasks.py", "test_launchers.py",
    "test_sensitivity.py", "test_ray.py", "test_faults.py", "test_kill.py", *COMPILED,
)  # fmt: skip
"""The longest files: begun early, they leave no processor idle at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those files first, in that order."""
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(FIRST)))


@pytest.fixture(scope="session", autouse=True)
def environments(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Processes that test side by side share the environments they make."""
    base = tmp_path_factory.getbasetemp()
    place = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ.setdefault("QUANT_RUNNER_ENVIRONMENTS", str(place / "environments"))


@pytest.fixture(scope="session", autouse=True)
def compiled_meanwhile(
    request: pytest.FixtureRequest, environments: None, shared_store: Path
) -> Iterator[None]:
    """Make environment ``llama_cpp`` on idle processors while other tests run."""
    files = {item.path.name for item in request.session.items}
    first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if not first or not files.intersection(COMPILED) or files.issubset(COMPILED):
        yield
        return
    # Whoever needs it sooner waits for the lock; if this fails, it is made on first use.
    process = subprocess.Popen(
        ["nice", "-n", "19", sys.executable, "-m", "runner", "env", "create", "llama_cpp"],
        env={**os.environ, "QUANT_RUNNER_STORE": str(shared_store)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield
    # Another process may be waiting for it, unless all are to stop.
    if request.session.shouldstop or request.session.shouldfail:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Callable[..., Called]:
    """Calls ``runner`` with these arguments and waits."""

    def call(*arguments: str, **variables: str) -> Called:
        done = subprocess.run(
            [sys.executable, "-m", "runner", *arguments],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return Called(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables that lead to a real Slurm of one node, the file's own; none without root."""
    cluster = conf_dir().parent / "tests" / "slurm" / "cluster.sh"
    if os.geteuid() != 0 or subprocess.run([cluster, "install"], check=False).returncode != 0:
        yield {}
        return
    place = tmp_path_factory.mktemp("slurm")
    subprocess.run([cluster, "start", place], check=True)
    yield {"SLURM_CONF": str(place / "slurm.conf")}
    subprocess.run([cluster, "stop", place], check=False)


def records(store: Path, sweep: str) -> list[dict[str, Any]]:
    """Records of a sweep in the order of its runs."""
    paths = sorted((store / "runs" / sweep).glob("*/record.json"))
    return [json.loads(path.read_text()) for path in paths]


def keys(record: dict[str, Any], stage: str) -> list[tuple[str, str, bool]]:
    """(subject, key, reused) of a stage's results in a record."""
    found = (entry for entry in record["stages"] if entry["stage"] == stage)
    return [(entry["subject"], entry["key"], entry["reused"]) for entry in found]


def base_model(store: Path, record: dict[str, Any]) -> Path:
    """Where the store keeps the model that a run measured; other tests may have made others."""
    stages = ("quantize", "sensitivity", "eval", "tasks")
    entry = next(s for s in record["stages"] if s["stage"] in stages)
    measured = determinants(store / "objects" / entry["stage"] / entry["key"])
    identity = (measured if "model" in measured else measured["tokenizer"])["model"]
    found = (p for p in store.glob("objects/model/*") if determinants(p)["model"] == identity)
    return next(found) / "model"


def determinants(directory: Path) -> dict[str, Any]:
    """What a result was made from, by its seal."""
    content: dict[str, Any] = json.loads((directory / "seal.json").read_text())["determinants"]
    return content


@pytest.fixture(scope="session")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local text that is short, so that a tiny model's evaluation takes no time."""
    chosen = random.Random(0)
    words = ["quantized", "models", "round", "their", "weights", "to", "fewer", "bits", "and", "so"]
    sentences = (" ".join(chosen.choices(words, k=9)).capitalize() + "." for _ in range(400))
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    path.write_text("A plain text for tests. " + " ".join(sentences))
    return path
