"""Processes that vanish: what was finished stays, what was not is never seen."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runner.api import compose_config
from runner.config.compose import quoted
from runner.pipeline.record import RunIdentity
from runner.pipeline.run import run_experiment
from runner.reporting.observed import open_session
from runner.store.records import Status, read_records
from tests.integration.conftest import TINY, Called, records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

LONG = {
    "quantize": (
        "calibration.samples=64",
        "calibration.sequence_length=256",
        "calibration.seed=7",
    ),
    "eval": ("calibration.samples=8", "calibration.sequence_length=64", "eval.windows=100"),
}
"""Work that lasts long enough to be hit."""
WAIT_SECONDS = 500
"""Only ever reached by a hang."""


@pytest.fixture
def environment(fresh: dict[str, str]) -> dict[str, str]:
    """Nothing else uses the store, so that all that lies about is the test's."""
    return fresh


@pytest.fixture
def store(environment: dict[str, str]) -> Path:
    return Path(environment["QUANT_RUNNER_STORE"])


@pytest.fixture
def started(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., psutil.Popen]]:
    """Starts ``runner`` and does not wait; whatever is left at the end is killed."""
    processes: list[psutil.Popen] = []
    # Shells have what they put into the background ignore Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*arguments: str) -> psutil.Popen:
        processes.append(
            psutil.Popen(
                [sys.executable, "-m", "runner", *TINY, "method=gptq", "tracker=none", *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def job_of(process: psutil.Popen, store: Path, stage: str) -> psutil.Process:
    """The worker that is carrying out ``stage``: a child of the runner's warm server."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        # A stage has its place before its process begins; earlier ones' processes are gone then.
        begun = list((store / "staging").glob(f"{stage}-*"))
        with contextlib.suppress(psutil.NoSuchProcess):
            servers = process.children()
            jobs = servers[0].children() if servers and begun else []
            if jobs and jobs[0].is_running():
                return jobs[0]
        time.sleep(0.02)
    pytest.fail(f"{stage} was never seen at work: {process.communicate()[1]}")


def windows_kept(store: Path) -> list[Path]:
    return list((store / "partial").glob("eval-*/window-*.npy"))


def no_process_left(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=WAIT_SECONDS)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("stage", ["quantize", "eval"])
def test_a_kill_during_a_stage_fails_its_run_and_leaves_no_partial_result(
    stage: str,
    started: Callable[..., psutil.Popen],
    command: Callable[..., Called],
    store: Path,
) -> None:
    arguments = (*LONG[stage], "stages=[quantize,eval]")
    process = started(*arguments, f"sweep=killed-{stage}")
    before = set((store / "objects").glob(f"{stage}/*"))
    job = job_of(process, store, stage)
    while stage == "eval" and job.is_running() and len(windows_kept(store)) < 5:
        time.sleep(0.01)
    job.kill()
    _, stderr = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 1
    (record,) = records(store, f"killed-{stage}")
    assert record["status"] == "failed"
    assert "SIGKILL" in record["reason"]
    assert "failed: the worker was killed" in stderr
    assert list((store / "staging").iterdir()) == []
    for path in set((store / "objects").glob(f"{stage}/*")) - before:
        assert (path / "result.json").exists()
    kept = windows_kept(store)
    again = command(*TINY, "method=gptq", "tracker=none", *arguments, f"sweep=again-{stage}")
    assert again.returncode == 0, again.stderr
    assert list((store / "partial").iterdir()) == []
    if stage == "eval":
        (record,) = records(store, "again-eval")
        resumed = [e["result"]["windows_resumed"] for e in record["stages"] if e["stage"] == stage]
        assert 0 < sum(resumed) == len(kept) < 100, "the rest alone was computed"
        whole = command(*TINY, "method=gptq", "tracker=none", *arguments, "force=[eval]",
                        "sweep=whole-eval")  # fmt: skip
        assert whole.returncode == 0, whole.stderr
        (uninterrupted,) = records(store, "whole-eval")
        values = [[e["result"]["perplexity"]["window_losses"] for e in r["stages"]
                   if e["stage"] == stage] for r in (record, uninterrupted)]  # fmt: skip
        assert values[0] == values[1]


def test_killing_the_control_process_leaves_no_orphan(
    started: Callable[..., psutil.Popen], store: Path
) -> None:
    process = started(*LONG["eval"], "eval.windows=1900", "stages=[eval]", "method=none",
                      "sweep=orphan")  # fmt: skip
    job_of(process, store, "eval")
    family = process.children(recursive=True)
    assert len(family) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert no_process_left(family)
    (record,) = read_records(store / "runs", "orphan")
    assert record.status is Status.interrupted


def test_control_c_stops_everything(started: Callable[..., psutil.Popen], store: Path) -> None:
    process = started(*LONG["eval"], "eval.windows=2000", "stages=[eval]", "method=none",
                      "sweep=control-c")  # fmt: skip
    job_of(process, store, "eval")
    family = process.children(recursive=True)
    (record,) = records(store, "control-c")
    assert record["status"] == "running"
    process.send_signal(signal.SIGINT)
    answer, told = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130
    assert "interrupted: stopped by the user" in answer
    assert "stopped with 0 of 1 runs done" in told
    assert told.splitlines()[-1].startswith("  runner model=tiny")
    assert told.count("sweep=control-c") == 1
    assert no_process_left(family)
    # Its own leftovers are gone; those of the process killed before are not its business.
    assert not list((store / "objects" / "eval").glob("*/.*"))
    (record,) = records(store, "control-c")
    assert (record["status"], record["reason"]) == ("interrupted", "stopped by the user")


def test_a_process_that_is_killed_while_it_keeps_a_model_is_replaced(
    store: Path, prose: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text = ("text@eval.text=local", f"eval.text.path={quoted(prose)}", "eval.context_length=48")
    overrides = [*TINY, *text, "method=none", "stages=[eval]", "tracker=none", "force=[eval]"]
    configs = [compose_config([*overrides, f"eval.windows={count}"]) for count in (2, 3, 4)]
    session = open_session(configs[0], live=False)
    try:
        found = []
        for number, config in enumerate(configs):
            identity = RunIdentity("keeper", number, overrides)
            record = run_experiment(config, session, identity)
            assert record.status is Status.ok, record.reason
            found.append(record.stages[-1].result["resources"]["model_was_loaded"])
            if number == 1:
                (keeper,) = [
                    child
                    for server in psutil.Process().children()
                    for child in server.children()
                    if "runner.pipeline.worker.server" in child.cmdline()
                ]
                keeper.kill()
                while keeper.is_running() and keeper.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.01)
    finally:
        session.close()
    assert found == [False, True, False]
