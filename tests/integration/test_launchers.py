"""A sweep's runs in other processes, and under a real Slurm."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tests.integration.conftest import SLURM, TINY, Called, records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]

RUNS = (*TINY, "method=rtn", "bits=w8a16,w4a16", "stages=[quantize,eval]", "eval.windows=5",
        "tracker=none")  # fmt: skip

WAITING = """
# @package environment.waiting
# Its lock is held by the test: who needs it waits, and computes nothing meanwhile.
name: waiting
provides: [hf]
accelerators: [cpu, cuda]
requirements: [six==1.17.0]
"""
FATES = """
defaults: [config, _self_]
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
      waiting: {method: none, stages: "[eval]", eval.windows: "6,7,8", engine.environment: waiting}
      working: {method: rtn, bits: w6a16, stages: "[quantize,eval]", eval.windows: "600"}
"""


@dataclass(frozen=True)
class Cluster:
    """A Slurm of one node, and a directory to call the runner from."""

    variables: dict[str, str]
    work: Path
    lock: Path
    """Of environment ``waiting``."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "runner", *arguments]

    def call(self, *arguments: str) -> Called:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.work, env=self.variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Called(done.returncode, done.stdout, done.stderr)

    def slurm(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.variables, capture_output=True, text=True, check=False
        )
        return done.stdout


@pytest.fixture(scope="module")
def cluster(
    slurm: dict[str, str], environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Cluster:
    if not slurm:
        pytest.skip("Slurm cannot be installed and started: that needs root")
    work = tmp_path_factory.mktemp("login")
    (work / "conf" / "environment").mkdir(parents=True)
    (work / "conf" / "environment" / "waiting.yaml").write_text(WAITING.lstrip())
    (work / "sweeps").mkdir()
    (work / "sweeps" / "fates.yaml").write_text(FATES)
    environments = tmp_path_factory.mktemp("environments")
    variables = {**environment, **slurm, "QUANT_RUNNER_ENVIRONMENTS": str(environments)}
    return Cluster(variables, work, environments / ".waiting.lock")


def until(true: Callable[[], object], what: str, seconds: float = 1200) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"never saw {what}"
        time.sleep(0.1)


def states(cluster: Cluster, main: str) -> dict[str, str]:
    lines = cluster.slurm("squeue", "-h", "-r", "-t", "all", "-j", main, "-o", "%i %T").splitlines()
    return dict(line.split() for line in lines)


def processes(cluster: Cluster, job: str) -> list[int]:
    lines = cluster.slurm("scontrol", "listpids", job).splitlines()[1:]
    return [int(line.split()[0]) for line in lines]


def log_says(store: Path, sweep: str, task: int, text: str) -> bool:
    logs = (store / "launch" / sweep).glob(f"*_{task}_0_log.*")
    return any(text in log.read_text() for log in logs)


def released(cluster: Cluster, task: str, main: str) -> bool:
    """Whether Slurm has begun a task that it would keep back, which it is told to let go."""
    cluster.slurm("scontrol", "update", f"JobId={task}", "StartTime=now")
    return states(cluster, main)[task] != "PENDING"


@pytest.fixture(scope="module")
def fates(cluster: Cluster, store: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep of four under Slurm: one is killed, one cancelled, one put back into the queue.

    The third is left to its time limit, a minute, which is why the other tests come before.
    """
    # The model and the text are there, so that waiting runs have nothing to do but wait.
    made = cluster.call(*TINY, "method=none", "stages=[eval]", "tracker=none", "sweep=before_fates")
    assert made.returncode == 0, made.stderr
    arguments = ("-cn", "fates", *TINY, *SLURM, "environment=[default,waiting]", "engine.threads=1",
                 "tracker=none", "sweep=fates")  # fmt: skip
    with FileLock(cluster.lock):
        submitter = subprocess.Popen(
            cluster.command(*arguments), cwd=cluster.work, env=cluster.variables,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for task in range(3):
            until(lambda: log_says(store, "fates", task, "process is creating it"), "a wait")  # noqa: B023
        (log,) = (store / "launch" / "fates").glob("*_0_0_log.err")
        main = log.name.partition("_")[0]
        (raw,) = cluster.slurm("squeue", "-h", "-j", f"{main}_0", "-o", "%A").split()
        for process in processes(cluster, raw):
            os.kill(process, signal.SIGKILL)
        cluster.slurm("scancel", f"{main}_1")
        cluster.slurm("scontrol", "update", f"JobId={main}_2", "TimeLimit=1")
        until(lambda: [s["stage"] for s in records(store, "fates")[3]["stages"]], "a checkpoint")
        (again,) = cluster.slurm("squeue", "-h", "-j", f"{main}_3", "-o", "%A").split()
        cluster.slurm("scontrol", "requeue", f"{main}_3")
        until(lambda: states(cluster, main)[f"{main}_3"] == "PENDING", "the requeued task")
        # Slurm would keep it back for two minutes, in which its first attempt is cleared away.
        until(lambda: not processes(cluster, again), "the end of the first attempt")
        until(lambda: released(cluster, f"{main}_3", main), "the second attempt")
        yield submitter
    if submitter.poll() is None:
        submitter.kill()
        submitter.communicate()


def test_every_launcher_gives_the_same(
    fates: subprocess.Popen[str], cluster: Cluster, store: Path
) -> None:
    launchers = {
        "slurm": SLURM,
        # Measured anew, in two processes at once.
        "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "force=[eval]"),
        "local": ("hydra/launcher=submitit_local",),
        "basic": (),
    }
    found, values = {}, {}
    for name, arguments in launchers.items():
        done = cluster.call("-m", *RUNS, *arguments, f"sweep=by-{name}")
        assert done.returncode == 0, done.stderr
        assert "rtn-w4a16-g32" in done.stdout, "the answer, printed by who started the sweep"
        both = records(store, f"by-{name}")
        assert [record["status"] for record in both] == ["ok", "ok"]
        found[name] = [
            [(s["stage"], s["subject"], s["key"]) for s in record["stages"]] for record in both
        ]
        values[name] = [
            s["result"]["perplexity"]["value"]
            for record in both
            for s in record["stages"]
            if s["stage"] == "eval"
        ]
    assert all(keys == found["slurm"] for keys in found.values())
    assert all(value == pytest.approx(values["slurm"]) for value in values.values())


def test_a_detached_sweep_is_collected_later(
    fates: subprocess.Popen[str], cluster: Cluster, store: Path
) -> None:
    arguments = ("-m", *TINY, *SLURM, "environment=[default,waiting]", "tracker=none",
                 "method=none", "stages=[eval]", "engine.environment=waiting",
                 "eval.windows=9,10", "launch.detach=true", "sweep=detached")  # fmt: skip
    submitted = cluster.call(*arguments)
    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stdout == "", "there is no answer yet"
    until(lambda: log_says(store, "detached", 1, "another process is creating it"), "a wait")
    collected = cluster.call("stages=[report]", "sweep=detached")
    assert collected.returncode == 0, collected.stderr
    assert "001-as-is: running" in collected.stdout
    assert "2 of the sweep's runs have not finished" in collected.stdout
    (log,) = (store / "launch" / "detached").glob("*_0_0_log.err")
    main = log.name.partition("_")[0]
    cluster.slurm("scancel", main)
    until(lambda: set(states(cluster, main).values()) == {"CANCELLED"}, "the end")
    over = cluster.call("stages=[report]", "sweep=detached")
    assert "not finished" not in over.stdout
    assert [r["status"] for r in records(store, "detached")] == ["cancelled", "cancelled"]


def test_what_befalls_a_task_is_its_runs_status(fates: subprocess.Popen[str], store: Path) -> None:
    stdout, stderr = fates.communicate(timeout=1800)
    assert fates.returncode == 1, stderr
    killed, cancelled, late, requeued = records(store, "fates")
    assert (killed["status"], killed["reason"]) == ("failed", "its job ended as FAILED")
    assert (cancelled["status"], cancelled["reason"]) == (
        "cancelled",
        "its job ended as CANCELLED",
    )
    assert late["status"] == "timeout"
    assert requeued["status"] == "ok", requeued["reason"]
    (checkpoint,) = [s for s in requeued["stages"] if s["stage"] == "quantize"]
    assert checkpoint["reused"], "what was finished before it was put back is kept"
    for shown in (
        "as-is failed: its job ended as FAILED",
        "as-is cancelled: its job",
        "as-is timeout",
    ):
        assert shown in stdout
