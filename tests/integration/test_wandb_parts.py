"""What a W&B run holds besides metrics, read back from its offline log. No model is needed."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from runner.answer.rows import rows_of
from runner.config.tracker import Tracker
from runner.display import Display
from runner.store.records import RunRecord, Status
from runner.tracking import summarise_sweep
from runner.tracking.base import SweepEnd
from runner.tracking.wandb import run_id, start
from tests.integration.test_wandb import find, read_back
from tests.unit.records import recipe, record

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A run, the same one started again, and the summary of a sweep with a failure."""
    directory = tmp_path_factory.mktemp("tracking")
    config = Tracker(
        name="wandb", directory=str(directory), job_type="nightly", notes="a note", tags=["mine"],
        system_interval_seconds=0.5,
    )  # fmt: skip
    good = recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
    kept = dict(os.environ)
    checkpoint = directory / "store" / "objects" / "quantize" / "0123abcd"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    good.config = {**good.config, "store": {"root": str(directory / "store")}}
    try:
        for _ in range(2):
            follow(config, good)
        failed = record(2, "x", [], status=Status.failed, reason="killed by signal 9")
        answer = directory / "answer.md"
        answer.write_text("# answer")
        records = [good, failed]
        summarise_sweep(config, SweepEnd("demo", records, rows_of(records), [answer]), Display())
    finally:
        os.environ.clear()
        os.environ.update(kept)
    logs = sorted(directory.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_ctime)
    return [read_back(path) for path in logs]


def follow(config: Tracker, good: RunRecord) -> None:
    tracker = start(config, good, Display())
    for stage in good.stages:
        tracker.log_stage(stage)
    # Time for the system's metrics to be looked at.
    time.sleep(1.5)
    tracker.finish(good)


def ids(runs: list[dict[str, Any]]) -> list[str | None]:
    return [find(run, "run_id") or find(run, "runId") for run in runs]


def test_a_restarted_run_is_the_same_run(runs: list[dict[str, Any]]) -> None:
    first, again, summary = ids(runs)
    assert first == again
    assert summary not in (None, first)


def test_ids_tell_stores_sweeps_and_runs_apart(tmp_path: Path) -> None:
    here, there = (Tracker(directory=str(tmp_path / name)) for name in ("a", "b"))
    found = {run_id(here, "s", "r"), run_id(there, "s", "r"), run_id(here, "t", "r"),
             run_id(here, "s", "q")}  # fmt: skip
    assert len(found) == 4


def test_how_a_run_presents_itself(runs: list[dict[str, Any]]) -> None:
    for part in ("nightly", "a note", "mine", "gptq-w4a16-g64"):
        assert part in runs[0]["text"], part


def test_the_systems_metrics_are_there(runs: list[dict[str, Any]]) -> None:
    assert "proc.memory.rssMB" in runs[0]["text"]


def test_samples_are_a_table_and_results_an_artifact(runs: list[dict[str, Any]]) -> None:
    text = runs[0]["text"]
    for part in ("bench/samples", "result-demo-001-gptq-w4a16-g64", "base_model", "evaluation"):
        assert part in text, part
    assert "file:///" in text, "the checkpoint, by reference"


def test_the_sweep_has_a_summary_and_an_alert(runs: list[dict[str, Any]]) -> None:
    text = runs[2]["text"]
    for part in ("1 of 2 runs failed", "killed by signal 9", "answer-demo", "runs/failed"):
        assert part in text, part
