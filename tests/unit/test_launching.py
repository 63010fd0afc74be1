"""What a sweep's launchers conclude from jobs' states, and when a sweep stops."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from runner.api import compose_config
from runner.config.compose import quoted
from runner.config.schema.launch import Launch
from runner.errors import StageError, UsageError
from runner.multirun.dry_run.show import DryRun
from runner.multirun.launchers.estimate import Estimate, Experience
from runner.multirun.launchers.jobs import (
    NO_ANSWER,
    UNKNOWN,
    collect,
    read_jobs,
    slurm_states,
    write_jobs,
)
from runner.multirun.launchers.task import RunTask, hidden, shown
from runner.pipeline.progress import expected_stages
from runner.pipeline.record import RunIdentity
from runner.pipeline.retry import at_half_without_memory
from runner.pipeline.worker.failed import WorkerFailed
from runner.pipeline.worker.pool import is_out_of_memory
from runner.planning.hardware.detect import detect
from runner.store.records import RunRecord, StageRecord, Status, read_record, write_record
from tests.unit.records import whole

pytestmark = pytest.mark.unit


def record(run: str, status: Status = Status.interrupted) -> RunRecord:
    return RunRecord(
        sweep="s", run=run, label="l", model="m", engine="hf", status=status,
        reason="still running",
        started="2026-01-01T00:00:00+00:00", seconds=None, overrides=[], config={},
    )  # fmt: skip


def read(runs: Path, run: str) -> tuple[Status, str | None]:
    found = read_record(runs / "s" / run / "record.json")
    assert found is not None
    return found.status, found.reason


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("FAILED", Status.failed),
        ("NODE_FAIL", Status.failed),
        ("OUT_OF_MEMORY", Status.oom),
        ("TIMEOUT", Status.timeout),
        ("CANCELLED", Status.cancelled),
        ("COMPLETED", Status.failed),
        (UNKNOWN, Status.interrupted),
    ],
)
def test_a_job_that_ended_closes_its_open_record(
    state: str, status: Status, tmp_path: Path
) -> None:
    write_record(tmp_path, record("000-l"))
    assert collect(tmp_path / "s", {"000-l": state}) == {}
    found, reason = read(tmp_path, "000-l")
    assert found is status
    assert reason is not None
    assert "its job" in reason


def test_what_a_run_said_itself_stands(tmp_path: Path) -> None:
    write_record(tmp_path, record("000-l", Status.ok))
    assert collect(tmp_path / "s", {"000-l": "FAILED"}) == {}
    assert read(tmp_path, "000-l") == (Status.ok, "still running")


def test_jobs_that_go_on_are_told(tmp_path: Path) -> None:
    write_record(tmp_path, record("000-l"))
    going_on = {"000-l": "RUNNING", "001-l": "PENDING", "002-l": "REQUEUED"}
    assert collect(tmp_path / "s", {**going_on, "003-l": "TIMEOUT"}) == going_on
    assert read(tmp_path, "000-l")[0] is Status.interrupted


def test_jobs_of_a_second_submission_replace_the_first(tmp_path: Path) -> None:
    assert read_jobs(tmp_path) == {}
    write_jobs(tmp_path, {"000-l": "7_0", "001-l": "7_1"})
    write_jobs(tmp_path, {"001-l": "9"})
    assert read_jobs(tmp_path) == {"000-l": "7_0", "001-l": "9"}


def test_without_slurm_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_states(["7_0", "7_1"]) == {"7_0": UNKNOWN, "7_1": UNKNOWN}


@pytest.mark.parametrize(
    ("complaint", "state", "going_on"),
    [
        ("slurm_load_jobs error: Invalid job id specified", UNKNOWN, []),
        ("slurm_load_jobs error: Socket timed out on send/recv operation", NO_ANSWER, ["000-l"]),
    ],
)
def test_a_controller_without_an_answer_ends_no_run(
    complaint: str,
    state: str,
    going_on: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\necho '{complaint}' >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_states(["7_0"]) == {"7_0": state}
    write_record(tmp_path, record("000-l"))
    assert [*collect(tmp_path / "s", {"000-l": state})] == going_on
    _, reason = read(tmp_path, "000-l")
    assert (reason == "still running") is bool(going_on)


def test_a_task_is_a_command_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_RUNNER_STORE", str(tmp_path))
    wrong = RunTask(["method=gtpq"], "s", 3, tmp_path / "record.json")
    with pytest.raises(RuntimeError, match="ended with code 2"):
        wrong()
    assert RunTask(["--help"], "s", 3, tmp_path / "record.json")() == 0


def test_it_crosses_to_another_process(tmp_path: Path) -> None:
    import pickle

    task = RunTask(["--help"], "s", 3, tmp_path / "record.json")
    code = "import pickle, sys; sys.exit(pickle.load(sys.stdin.buffer)())"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(task), capture_output=True, check=False
    )
    assert done.returncode == 0
    assert b"Usage" in done.stdout


def test_failure_policies() -> None:
    bounds = {"continue": None, "stop": 1, "stop_after_3": 3}
    assert {word: Launch(on_failure=word).max_failures for word in bounds} == bounds
    for wrong in ("stop_after_0", "stop_after_n", "never"):
        with pytest.raises(UsageError, match="expected continue, stop or stop_after_N"):
            _ = Launch(on_failure=wrong).max_failures


@pytest.mark.parametrize(
    ("kind", "message", "memory"),
    [
        ("MemoryError", "", True),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", True),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory", True),
        ("RuntimeError", "shapes do not match", False),
        ("StageError", "the text is out of memory of mankind", False),
    ],
)
def test_out_of_memory_is_told_from_other_failures(kind: str, message: str, memory: bool) -> None:
    assert is_out_of_memory(kind, message) is memory


def test_the_most_similar_run_says_what_a_stage_costs() -> None:
    def took(label: str, method: str, seconds: float) -> RunRecord:
        made = record(f"000-{label}", Status.ok)
        made.model, made.engine, made.label = "tiny", "hf", label
        made.config = {"method": {"name": method}}
        result = {"resources": {"peak_memory_bytes": 5e8}} | whole(
            "quantize", {"checkpoint_bytes": 1_000_000}
        )
        made.stages = [
            StageRecord("quantize", "recipe", "k", False, seconds, "default", {}, result),
            StageRecord("quantize", "recipe", "k", True, 0.0, "default", {}, result),
        ]
        return made

    config = compose_config(["model=tiny", "method=rtn", "group_size=g32"])
    machine = detect()
    known = Experience([took("rtn-w4a16-g32", "rtn", 7.0), took("gptq-w4a16-g32", "gptq", 90.0)])
    assert known.estimate("quantize", config, machine, 10**5) == Estimate(7.0, 5e8, 1e6)
    of_another_version = took("rtn-w4a16-g32", "rtn", 7.0)
    of_another_version.stages[0].result["checkpoint_bytes"] = "many"
    assert Experience([of_another_version]).estimate("quantize", config, machine, 10**5) == (
        Estimate(7.0, 5e8, 0.0)
    ), "what it says of time and memory is known all the same"
    config.bits.weight.num_bits = 3
    assert known.estimate("quantize", config, machine, 10**5).seconds == 7.0, "the method's"
    rough = Experience([]).estimate("quantize", config, machine, 10**9)
    assert rough.rough
    assert rough.disk_bytes == pytest.approx(10**9 * 3.5 / 8)
    both = known.estimate("eval", config, machine, 0).and_then(Estimate(2.0, 1.0, 3.0))
    assert both.rough
    assert both.seconds > 2.0
    assert str(Estimate(200.0, 2e9, 3e6)) == "about 3 min, 2.0 GB of memory, 3.0 MB of disk"


def attempts(needed: int, error: WorkerFailed) -> tuple[list[int], list[str], int | None]:
    """Batch sizes tried by a stage that has memory for ``needed``, warnings, and its result."""
    tried: list[int] = []
    told: list[str] = []

    def attempt(batch_size: int) -> int:
        tried.append(batch_size)
        if batch_size > needed:
            raise error
        return batch_size

    try:
        return tried, told, at_half_without_memory("tasks x", 8, attempt, told.append)
    except WorkerFailed as failed:
        assert failed is error
        return tried, told, None


def test_a_stage_without_memory_is_tried_once_more_at_half_its_batch() -> None:
    full = WorkerFailed("killed", [], out_of_memory=True)
    assert attempts(8, full) == ([8], [], 8)
    warning = "tasks x ran out of memory at a batch size of 8: retrying at 4"
    assert attempts(4, full) == ([8, 4], [warning], 4)
    assert attempts(2, full) == ([8, 4], [warning], None), "once, and then its status is oom"
    assert attempts(4, WorkerFailed("a fault", [])) == ([8], [], None)


def test_a_configuration_tells_its_stages_before_they_are_done() -> None:
    def told(*overrides: str) -> list[tuple[str, str]]:
        config = compose_config(["model=tiny", "group_size=g32", *overrides])
        return expected_stages(config)

    recipe = "rtn-w4a16-g32"
    assert told("method=rtn", "stages=[plan,quantize,eval,report]") == [
        ("plan", recipe), ("quantize", recipe), ("eval", "unquantized"), ("eval", recipe),
    ]  # fmt: skip
    assert told("method=none", "stages=[quantize,eval]") == [("eval", "unquantized")]
    assert told("method=rtn", "stages=[eval]") == [("eval", "tiny")], "the model as it is"
    serving = ("method=rtn", "stages=[quantize,serving]")
    assert told(*serving, "bench.baseline=true")[1:] == [
        ("serving", "unquantized"), ("serving", recipe),
    ]  # fmt: skip
    assert told(*serving, "bench.baseline=false")[1:] == [("serving", recipe)]
    mixed = told("method=rtn", "bits=auto", "stages=[sensitivity,quantize]")
    # Asked for, and needed by the recipe.
    names = ["sensitivity", "sensitivity", "together", "quantize"]
    assert [stage for stage, _ in mixed] == names


def test_a_dry_run_says_what_it_can_of_a_model_that_is_not_here(tmp_path: Path) -> None:
    place = [
        f"store.root={quoted(tmp_path / 'store')}",
        f"store.environments={quoted(tmp_path / 'environments')}",
    ]
    asked = ["method=rtn", "bits=w8a16", "stages=[quantize,eval]", *place]
    dry_run = DryRun()
    for number, model in enumerate(
        (["model=smollm2_135m_hub"], ["model=hub", "model.hub_id=some/model"])
    ):
        overrides = [*model, *asked]
        said = dry_run.describe(compose_config(overrides), RunIdentity("s", number, overrides))
        todo = "to do: quantize rtn-w8a16-g64, eval unquantized, eval rtn-w8a16-g64: "
        assert todo + ("roughly" if number == 0 else "cost unknown") in said
        assert "downloads no model from the hub" in said
    assert (dry_run.summary() or "").endswith("without 1 of unknown cost")
    assert not list(tmp_path.iterdir()), "nothing is made"


def test_what_is_handed_over_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    given = ["method=rtn", "+a.token=tulips-in-may", "tracker.notes='http://me:pw@host'"]
    filed = hidden(given)
    assert filed[0] == "method=rtn"
    assert hidden(given) == filed, "one variable an override, however many runs have it"
    assert b"tulips" not in pickle.dumps(filed) and b"pw" not in pickle.dumps(filed)
    assert shown(filed) == given
    os.environ.pop(filed[1].partition(":")[2])
    with pytest.raises(StageError, match="export the submitter's environment"):
        shown(filed)
