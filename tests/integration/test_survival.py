"""A sweep whose processes are killed again and again."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.config.compose import quoted
from runner.store.provenance import faults, read_seal
from tests.integration.conftest import SLURM, Called, records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]

KILLS = 20
SEED = 6
WAIT_SECONDS = 500
"""Only ever reached by a hang."""


def results(store: Path, sweep: str) -> list[Any]:
    """What a sweep's runs found, without what a second measurement may change."""
    found = []
    for record in records(store, sweep):
        assert record["status"] == "ok", record["reason"]
        for stage in record["stages"]:
            result = stage["result"]
            seal = read_seal(store / "objects" / stage["stage"] / stage["key"])
            assert seal is not None
            weights = {n: d for n, d in seal.files.items() if n.endswith(".safetensors")}
            losses = result.get("perplexity", {}).get("window_losses")
            found.append([record["run"], stage["stage"], stage["subject"], stage["key"], losses,
                          weights])  # fmt: skip
    return found


class Killer:
    """Kills processes of a store at random moments, each kind about as often as the others."""

    def __init__(self, store: Path) -> None:
        self.random = random.Random(SEED)
        self.kills = {"job": 0, "server": 0, "control": 0, "submitter": 0, "task": 0}
        self.mark = f"QUANT_RUNNER_STORE={store}".encode()

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The store's living processes by kind, orphans included."""
        found: dict[str, list[psutil.Process]] = {kind: [] for kind in self.kills}
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError, psutil.Error):
                variables = environment.read_bytes().split(b"\0")
                if self.mark not in variables or int(environment.parts[2]) == os.getpid():
                    continue
                process = psutil.Process(int(environment.parts[2]))
                words = " ".join(process.cmdline())
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if "runner.pipeline.worker.server" in words:
                    parent = process.parent()
                    is_job = parent is not None and "worker.server" in " ".join(parent.cmdline())
                    found["job" if is_job else "server"].append(process)
                elif b"QUANT_RUNNER_RUN=" in b"".join(variables) or "submitit.core" in words:
                    found["task"].append(process)
                elif " -m runner " in words:
                    found["submitter" if "/launcher=" in words else "control"].append(process)
        return found

    def kill_one(self, kinds: list[str], starter: subprocess.Popen[bytes]) -> None:
        """Kill a process of the kind that was hit least, a random moment after there is one."""
        wanted = min(kinds, key=lambda kind: (self.kills[kind], self.random.random()))
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.processes()[wanted]:
            if starter.poll() is not None or time.monotonic() > deadline:
                return
            time.sleep(0.1)
        time.sleep(self.random.uniform(0.0, 1.0))
        living = self.processes()[wanted]
        with contextlib.suppress(psutil.Error, IndexError):
            self.random.choice(living).send_signal(signal.SIGKILL)
            self.kills[wanted] += 1

    @property
    def done(self) -> bool:
        return sum(self.kills.values()) >= KILLS and min(self.kills.values()) > 0

    def wait_for_orphans(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while any(self.processes().values()):
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.2)


class Watch(threading.Thread):
    """Looks whether two jobs make the same checkpoint: a job's output goes to a log of its key."""

    def __init__(self, store: Path) -> None:
        super().__init__(daemon=True)
        self.logs = f"{store}/logs/quantize-"
        self.over = threading.Event()
        self.twice: list[set[str]] = []

    def run(self) -> None:
        earlier: list[set[str]] = []
        while not self.over.wait(0.1):
            by_key: dict[str, set[str]] = {}
            for output in Path("/proc").glob("[0-9]*/fd/*"):
                with contextlib.suppress(OSError, psutil.Error):
                    log = str(output.readlink())
                    if log.startswith(self.logs):
                        by_key.setdefault(log.removeprefix(self.logs)[:20], set()).add(log)
            several = [logs for logs in by_key.values() if len(logs) > 1]
            # Once could be one whose parents end between two looks at them.
            self.twice += [logs for logs in several if logs in earlier]
            earlier = several


def checkpoints_made(store: Path) -> set[str]:
    """Keys of all that jobs have worked on, finished or not."""
    logs = (store / "logs").glob("quantize-*")
    return {log.name.removeprefix("quantize-")[:20] for log in logs}


def test_a_sweep_survives_twenty_kills(
    command: Callable[..., Called],
    store: Path,
    environment: dict[str, str],
    prose: Path,
    tmp_path: Path,
    *,
    slurm: dict[str, str],
) -> None:
    # Four checkpoints that are made in no time: casts of two models.
    sweep = ("-m", "model=tiny", "method=none", "bits=fp16,fp32", "model.seed=8,9", "eval=quick",
             "text@eval.text=local", f"eval.text.path={quoted(prose)}", "eval.context_length=64",
             "eval.windows=2,3,4", "stages=[quantize,eval]", "tracker=none",
             "sweep=twelve")  # fmt: skip
    undisturbed = command(*sweep)
    assert undisturbed.returncode == 0, undisturbed.stderr

    disturbed = tmp_path / "disturbed"
    killer, watch = Killer(disturbed), Watch(disturbed)
    watch.start()
    launchers = [
        ((), ["job", "server", "control"]),
        ((*SLURM, "hydra.launcher.slurm_array_parallelism=2")
         if slurm else ("hydra/launcher=submitit_local", "hydra.launcher.max_concurrent=2"),
         ["job", "server", "submitter", "task"]),
    ]  # fmt: skip
    starts, ended = 0, 1
    while not killer.done:
        launcher, kinds = launchers[starts % 2]
        # There is something to kill even if all runs were ok so early.
        again = ("force=[eval]",) if ended == 0 else ()
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", *sweep, *launcher, *again],
            cwd=tmp_path, env={**environment, **slurm, "QUANT_RUNNER_STORE": str(disturbed)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        starts += 1
        while process.poll() is None and not killer.done:
            killer.kill_one(kinds, process)
        if process.poll() is None:
            process.kill()
        ended = process.wait()
        # Tasks whose submitter was killed go on, but only beside the next start.
        if slurm and (starts % 2 == 1 or killer.done):
            subprocess.run(["scancel", "--user=root"], env={**os.environ, **slurm}, check=True)
    killer.wait_for_orphans()
    last = command(*sweep, QUANT_RUNNER_STORE=str(disturbed))
    watch.over.set()
    watch.join()

    assert last.returncode == 0, last.stderr
    assert starts > 1
    assert results(disturbed, "twelve") == results(store, "twelve")
    assert len(records(disturbed, "twelve")) == 12
    assert len(checkpoints_made(disturbed)) == 4
    assert watch.twice == []
    assert list((disturbed / "staging").iterdir()) == []
    assert not list((disturbed / "partial").glob("*"))
    for path in (disturbed / "objects").glob("*/*"):
        assert json.loads((path / "result.json").read_text())
        assert read_seal(path) is not None
        assert faults(path) == []
