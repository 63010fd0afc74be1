"""One store for the whole session, and the command line as a user calls it."""

import contextlib
import gc
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner import keep_workers
from runner.cli.main import main
from runner.planning.hardware.detect import detect
from runner.util.instructions import VARIABLE, kernel_limits
from runner.util.paths import conf_dir

TINY = ("model=tiny", "group_size=g32", "eval=quick", "bench=quick")
"""A run of the machinery: a generated model, a few windows, two short repetitions."""
SLURM = (
    "hydra/launcher=submitit_slurm", "hydra.launcher.poll_seconds=1",
    "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=10",
    "hydra.launcher.slurm_signal_delay_s=10",
)  # fmt: skip
"""Runs of a sweep as tasks of the Slurm that fixture ``slurm`` starts."""


def pytest_configure() -> None:
    """Command lines run in this process: looking for cycles less often saves 15% of composing."""
    gc.set_threshold(100_000, 20, 100)
    # Tests that compute by themselves do so on the CPU that the workers are told of.
    if VARIABLE in os.environ:
        os.environ.update(kernel_limits(detect().instruction_sets))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that may take long begin first: one left for the end would keep one processor alone."""
    items.sort(key=_allowed_seconds, reverse=True)


def _allowed_seconds(item: pytest.Item) -> float:
    """The timeout that an item's file was given; 0 where none was."""
    file = item.getparent(pytest.Module)
    marks = [] if file is None else [one for one in file.own_markers if one.name == "timeout"]
    return max((float(mark.args[0]) for mark in marks), default=0.0)


@dataclass(frozen=True)
class Called:
    """What a command line did."""

    returncode: int
    stdout: str
    stderr: str


def here(*arguments: str, cwd: Path, variables: Mapping[str, str]) -> Called:
    """Carry out ``runner ARGUMENTS`` in this process, whose workers stay warm from call to call.

    Args:
        arguments: The command line.
        cwd: Working directory.
        variables: The whole environment.
    """
    kept, path, words, before = dict(os.environ), [*sys.path], sys.argv, Path.cwd()
    # A configuration may have Hydra log to a file, which is none of the next call's.
    handlers, level = [*logging.root.handlers], logging.root.level
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    try:
        _set_environment(variables)
        os.chdir(cwd)
        sys.argv = ["runner", *arguments]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv, sys.path[:] = words, path
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        os.chdir(before)
        _set_environment(kept)
    assert isinstance(code, int), code
    return Called(code, out.getvalue(), err.getvalue())


def _set_environment(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def elsewhere(*arguments: str, cwd: Path, variables: Mapping[str, str]) -> Called:
    """The same in a process of its own, as a user's shell does it."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=cwd, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Called(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session", autouse=True)
def workers() -> Iterator[None]:
    """Calls in this process share their workers."""
    with keep_workers():
        yield


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that tests share, so that models and texts are made once."""
    return tmp_path_factory.mktemp("session") / "store"


@pytest.fixture(scope="session")
def store(shared_store: Path) -> Path:
    """The store a test file works on: the shared one, unless the file has its own."""
    return shared_store


@pytest.fixture(scope="session")
def environments() -> None:
    """Environments are made once a machine and kept where a user's are: their pins are the key."""
    kept = Path.home() / ".cache" / "quant-runner" / "environments"
    os.environ.setdefault("QUANT_RUNNER_ENVIRONMENTS", str(kept))


@pytest.fixture(scope="session")
def plain_variables(environments: None) -> dict[str, str]:
    """The test process's environment without what a sweep or a terminal would add to it."""
    ours = ("QUANT_RUNNER_SWEEP", "QUANT_RUNNER_RUN", "PYTEST_CURRENT_TEST", "COLUMNS", "LINES")
    return {name: value for name, value in os.environ.items() if name not in ours}


@pytest.fixture(scope="module")
def environment(store: Path, plain_variables: dict[str, str]) -> dict[str, str]:
    """Variables of a command line on the file's store."""
    return {**plain_variables, "QUANT_RUNNER_STORE": str(store)}


@pytest.fixture
def fresh(
    tmp_path_factory: pytest.TempPathFactory, shared_store: Path, plain_variables: dict[str, str]
) -> dict[str, str]:
    """Variables of a store that holds the tiny model and a text, and nothing else."""
    made = {**plain_variables, "QUANT_RUNNER_STORE": str(shared_store)}
    place = tmp_path_factory.mktemp("fresh")
    seed = here(*TINY, "method=none", "stages=[eval]", "tracker=none", "sweep=for_fresh", cwd=place,
                variables=made)  # fmt: skip
    assert seed.returncode == 0, seed.stderr
    for kind in ("model", "text", "tokens"):
        source = shared_store / "objects" / kind
        shutil.copytree(source, place / "store" / "objects" / kind, copy_function=os.link)
    shutil.copytree(shared_store / "cache", place / "store" / "cache", symlinks=True)
    return {**made, "QUANT_RUNNER_STORE": str(place / "store")}


FLOAT32, BFLOAT16 = "float32", "bfloat16"
INSTRUCTIONS = {BFLOAT16: "+avx512_bf16", FLOAT32: "-avx512_bf16,-amx_bf16,-bf16"}
"""What makes ``auto`` compute in a type, whatever the machine's CPU."""
SAME = {FLOAT32: 1e-4, BFLOAT16: 1e-2}
"""Relative difference that two right ways to a mean over hundreds of tokens may have.

Kernels add in another order when they are given other shapes, and round each time.
"""


@pytest.fixture(scope="module", params=[FLOAT32, BFLOAT16])
def arithmetic(request: pytest.FixtureRequest) -> str:
    """Type that ``auto`` computes in: results hold on CPUs with bfloat16 instructions and without.

    A file that touches numbers has it in its fixture ``environment``, by ``computing``.
    """
    name: str = request.param
    return name


def computing(variables: dict[str, str], arithmetic: str) -> dict[str, str]:
    """These variables, on a CPU that computes in ``arithmetic``."""
    return {**variables, "QUANT_RUNNER_INSTRUCTION_SETS": INSTRUCTIONS[arithmetic]}


@pytest.fixture(scope="session", autouse=True)
def made_meanwhile(
    request: pytest.FixtureRequest, environments: None, shared_store: Path
) -> Iterator[None]:
    """Make the environments that files are marked with on idle processors while others run."""
    marks = (item.get_closest_marker("environments") for item in request.session.items)
    names = sorted({name for mark in marks if mark is not None for name in mark.args})
    first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if not first or not names:
        yield
        return
    # Whoever needs one sooner waits for its lock; if this fails, it is made on first use.
    process = subprocess.Popen(
        ["nice", "-n", "19", sys.executable, "-m", "runner", "env", "create", *names],
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
    """Calls ``runner`` with these arguments, in this process."""

    def call(*arguments: str, **variables: str) -> Called:
        return here(*arguments, cwd=tmp_path, variables={**environment, **variables})

    return call


@pytest.fixture
def process(environment: dict[str, str], tmp_path: Path) -> Callable[..., Called]:
    """Calls ``runner`` with these arguments in a process of its own and waits."""

    def call(*arguments: str, **variables: str) -> Called:
        return elsewhere(*arguments, cwd=tmp_path, variables={**environment, **variables})

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
