"""Launchers without their clusters: what is asked of Ray and Slurm, and what is made of answers."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, RunMode

from runner.config.compose import quoted, register
from runner.errors import RunnerError, UsageError
from runner.multirun.launchers.base import ClusterLauncher
from runner.multirun.launchers.ray import RayLauncher, _begun, _end, _run, _states
from runner.multirun.launchers.submitit import SubmititLauncher
from runner.multirun.launchers.task import (
    NOT_BEGUN,
    RUN_VARIABLE,
    SWEEP_VARIABLE,
    RunTask,
    own_number,
)
from runner.multirun.launchers.thrifty import ThriftyLauncher, spared
from runner.store.records import Status, write_record
from tests.unit.conftest import StubDriver, kept_loader
from tests.unit.test_launching import read, record

pytestmark = pytest.mark.unit

SETTINGS: dict[str, Any] = {
    "poll_seconds": 0.1, "address": None, "num_cpus": 1.0, "memory_gb": None, "resources": None,
}  # fmt: skip


def ray_launcher(**settings: Any) -> RayLauncher:
    return RayLauncher(**{**SETTINGS, **settings})


@pytest.mark.parametrize(
    ("launcher", "package", "said"),
    [
        (ray_launcher(), "ray", r"needs Ray: pip install 'quant-runner\[ray\]'"),
        (SubmititLauncher("local", 1.0), "submitit", r"pip install quant-runner\[launchers\]"),
    ],
)
def test_a_launcher_says_how_to_get_what_it_needs(
    launcher: ClusterLauncher, package: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=said):
        launcher.require()


def test_slurm_is_used_from_a_login_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no sbatch here; run it on a login node"):
        SubmititLauncher("slurm", 1.0).require()


def test_a_submission_that_slurm_refuses_closes_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: gpus' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    (tmp_path / "srun").symlink_to(sbatch)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    runs = tmp_path / "store" / "runs"
    jobs: Any = []
    for name in ("000-l", "001-l"):
        write_record(runs, record(name))
        task = RunTask(["--help"], "s", len(jobs), runs / "s" / name / "record.json")
        jobs.append(SimpleNamespace(run=name, task=task))
    with pytest.raises(RunnerError, match=r"sbatch refused: .*invalid partition: gpus"):
        SubmititLauncher("slurm", 0.1).carry_out(jobs, runs / "s", detach=False)
    for name in ("000-l", "001-l"):
        status, reason = read(runs, name)
        assert status is Status.failed
        assert reason is not None and "invalid partition: gpus" in reason
    assert (tmp_path / "store" / "launch" / "s").stat().st_mode & 0o777 == 0o700


def launched(launcher: ClusterLauncher, store: Path, *overrides: str) -> Any:
    """One run of sweep ``s``, as Hydra hands it over."""
    register()
    setup_globals()
    loader = kept_loader(Path.cwd())
    context = HydraContext(config_loader=loader, callbacks=None)  # type: ignore[arg-type]
    given = ["model=tiny", "tracker=none", f"store.root={quoted(store)}", *overrides]
    config = loader.load_configuration("config", [], RunMode.MULTIRUN)
    launcher.setup(hydra_context=context, task_function=lambda _: None, config=config)
    return launcher.launch([given], 0)


def test_only_what_goes_on_alone_can_be_left_alone(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWEEP_VARIABLE, "s")
    with pytest.raises(
        UsageError, match=r"launch\.detach=true needs hydra/launcher=submitit_slurm"
    ):
        launched(SubmititLauncher("local", 0.1), store, "launch.detach=true")
    assert not store.exists(), "no record was opened"


def test_a_run_that_only_predicts_takes_no_job_of_the_cluster(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWEEP_VARIABLE, "s")
    launcher = SubmititLauncher("local", 0.1)
    (returned,) = launched(launcher, store, "stages=[plan]", "plan.context_length=4096")
    assert (returned.return_value.runs, returned.return_value.sweep) == (store / "runs", "s")
    status, reason = read(store / "runs", "000-plan")
    assert status is Status.skipped, reason
    assert "exceeds the model's context of 512" in (reason or ""), "its own process has judged it"
    assert not (store / "launch").exists(), "nothing was submitted"


class Handed:
    """A launcher of others that notes what it is handed."""

    def __init__(self) -> None:
        self.jobs: list[Sequence[str]] = []

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[str]:
        self.jobs += jobs
        return [f"made {number}" for number, _ in enumerate(jobs, initial_job_idx)]


@pytest.mark.parametrize(
    ("known", "dry_run", "can_tell", "handed"),
    [
        ("abc", True, "abc", 0),
        ("abc", False, "abc", 3),
        ("ab", True, "abc", 3),
        ("abc", True, "ab", 3),
    ],
)
def test_of_a_dry_sweep_a_cluster_is_handed_nothing_or_all(
    known: str, dry_run: bool, can_tell: str, handed: int
) -> None:
    """It sees all runs at once, or none: what it told itself would be told twice."""
    config: Any = SimpleNamespace(dry_run=dry_run)

    def spare(config: Any, number: int, job: list[str]) -> JobReturn | None:
        return spared(f"{job[0]} is {number}") if job[0] in can_tell else None

    cluster, jobs = Handed(), [["a"], ["b"], ["c"]]
    thrifty = ThriftyLauncher(cluster, lambda job: config if job[0] in known else None, spare)
    returned: list[Any] = [*thrifty.launch(jobs, 4)]
    assert len(cluster.jobs) == handed
    if handed:
        assert returned == ["made 4", "made 5", "made 6"]
    else:
        assert [one.return_value for one in returned] == ["a is 4", "b is 5", "c is 6"]
        assert {one.status for one in returned} == {JobStatus.COMPLETED}


@pytest.mark.parametrize(("number", "found"), [(None, None), ("7", 7)])
def test_a_run_is_told_its_number(
    number: str | None, found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    if number is not None:
        monkeypatch.setenv(RUN_VARIABLE, number)
    assert own_number() == found


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "\u0663"])
def test_a_number_that_no_launcher_set_is_refused(
    number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_VARIABLE, number)
    with pytest.raises(UsageError, match=f"{RUN_VARIABLE}={number} is not a number"):
        own_number()


@pytest.mark.parametrize(
    ("asked", "address", "started"),
    [
        (1.0, None, {"num_cpus": 4, "num_gpus": 0, "include_dashboard": False}),
        (9.0, None, {"num_cpus": 9, "num_gpus": 0, "include_dashboard": False}),
        (9.0, "host:6379", {}),
    ],
)
def test_a_ray_of_ones_own_grants_what_a_run_asks_for(
    asked: float, address: str | None, started: dict[str, Any],
    stub_driver: StubDriver, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stub_driver(None)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    calls: list[dict[str, Any]] = []
    ray_launcher(num_cpus=asked, address=address)._connect(
        SimpleNamespace(init=lambda **settings: calls.append(settings)), []
    )
    always = {"address": address or "local", "log_to_driver": False, "logging_level": "error"}
    assert calls == [{**always, **started}]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("no cluster\nat great length"), "address=h:1: no cluster (Ray's own logs"),
        (RuntimeError(), "address=h:1: RuntimeError (Ray's own logs"),
    ],
)
def test_a_ray_that_does_not_answer_is_told_in_one_line(error: Exception, said: str) -> None:
    def refuse(**_: Any) -> None:
        raise error

    with pytest.raises(UsageError) as refused:
        ray_launcher(address="h:1")._connect(SimpleNamespace(init=refuse), [])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "wants"),
    [
        ({"num_cpus": 2}, None),
        ({"num_cpus": 2, "resources": {"far": 1}}, None),
        ({"gpus": 1}, "no node of the cluster has CPU: 1, GPU: 1; the runs wait for one"),
        ({"num_cpus": 3}, "no node of the cluster has CPU: 3; the runs wait for one"),
        # Both are there, on two nodes.
        ({"num_cpus": 2, "memory_gb": 2}, "has CPU: 2, memory: 2e+09;"),
    ],
)
def test_what_no_living_node_has_is_told(
    settings: dict[str, Any], wants: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2, "far": 1, "memory": 1e9}},
        {"Alive": True, "Resources": {"CPU": 1, "memory": 4e9}},
        {"Alive": False, "Resources": {"CPU": 64, "GPU": 8, "memory": 4e12}},
    ]
    gpus = settings.get("gpus", 0)
    asked = {name: value for name, value in settings.items() if name != "gpus"}
    ray_launcher(**asked)._warn_of_want(SimpleNamespace(nodes=lambda: nodes), gpus)
    told = capsys.readouterr().err
    assert told == "" if wants is None else wants in told


def test_a_task_of_ray_runs_where_the_sweep_was_started_if_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir("/")
    found: list[tuple[Path, str | None]] = []

    def task() -> int:
        found.append((Path.cwd(), os.environ.get("QUANT_RUNNER_OF_THE_TEST")))
        return 0

    for directory in (tmp_path / "not there", tmp_path):
        assert _run(task, str(directory), {"QUANT_RUNNER_OF_THE_TEST": "x"}) == 0  # type: ignore[arg-type]
    assert found == [(Path("/"), "x"), (tmp_path, "x")]


@pytest.fixture
def ended() -> Callable[[Exception | None], str]:
    """What a task is said to have come to that ends in one of Ray's own errors."""
    ray = pytest.importorskip("ray")

    def state(error: Exception | None) -> str:
        def get(_: object) -> int:
            if error is not None:
                raise error
            return 0

        return _end(SimpleNamespace(get=get, exceptions=ray.exceptions), "task")

    return state


def test_rays_errors_are_states_of_jobs(ended: Callable[[Exception | None], str]) -> None:
    from ray import exceptions

    assert ended(None) == "COMPLETED"
    assert ended(exceptions.OutOfMemoryError("the node is full")) == "OUT_OF_MEMORY"
    assert ended(exceptions.NodeDiedError("gone")) == "NODE_FAIL"
    assert ended(exceptions.LocalRayletDiedError()) == "NODE_FAIL"
    assert ended(exceptions.TaskCancelledError()) == "CANCELLED"
    failed = exceptions.RayTaskError("_run", "a traceback", RuntimeError("ended with code 1"))
    assert ended(failed) == "FAILED"
    assert ended(failed.as_instanceof_cause()) == "FAILED"
    assert ended(exceptions.WorkerCrashedError()) == "FAILED"


@pytest.mark.parametrize("alive", [True, False])
def test_tasks_end_with_the_node_that_the_sweep_was_started_on(alive: bool, tmp_path: Path) -> None:
    waiting, begun = record("000-l"), record("001-l")
    waiting.reason = NOT_BEGUN
    for one in (waiting, begun):
        write_record(tmp_path, one)
    nodes = [{"NodeID": "home", "Alive": alive}, {"NodeID": "other", "Alive": True}]
    ray = SimpleNamespace(
        wait=lambda tasks, num_returns, timeout: (tasks[2:], tasks[:2]),
        nodes=lambda: nodes,
        get=lambda _: 0,
    )
    tasks = {"a": "000-l", "b": "001-l", "c": "002-l"}
    states = _states(ray, tasks, "home", tmp_path / "s")
    going_on = ("PENDING", "RUNNING") if alive else ("NODE_FAIL", "NODE_FAIL")
    assert states == dict(zip(tasks.values(), (*going_on, "COMPLETED"), strict=True))
    assert _begun(tmp_path / "s" / "absent") == "PENDING"
