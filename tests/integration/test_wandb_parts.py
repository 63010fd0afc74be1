"""What a W&B run holds besides metrics, read back from its offline log. No model is needed."""

import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from runner.cli.track import execute
from runner.config.compose import quoted
from runner.config.schema.tracker import AlertOn, Checkpoints, Tracker
from runner.reporting.display import Display
from runner.reporting.rows import rows_of
from runner.reporting.tracking import promote_checkpoint, summarise_sweep
from runner.reporting.tracking.base import SweepEnd
from runner.reporting.tracking.wandb import start
from runner.reporting.tracking.wandb_artifacts import checkpoint_artifact
from runner.reporting.tracking.wandb_run import run_id
from runner.store.records import RunRecord, Status
from tests.integration.test_wandb import find, parts, read_back
from tests.unit.records import recipe, record, stage
from tests.unit.test_tasks_answer import CHANGE, tasks

pytestmark = pytest.mark.integration

KEY = "0123abcd"
"""Of the checkpoint in ``records.py``."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A run, the same one started again, and the summary of a sweep with a failure."""
    directory = tmp_path_factory.mktemp("tracking")
    config = Tracker(
        name="wandb", directory=str(directory), job_type="nightly", notes="a note", tags=["mine"],
        project="our-project", entity="our-team", group="our-group", system_interval_seconds=0.5,
        alerts=[AlertOn.run_failed, AlertOn.sweep_failed],
    )  # fmt: skip
    good = recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
    layer = {"unit": "model.layers.3.mlp.down_proj", "rounding": "w4a16-g64", "perplexity": 20.5,
             "kl_divergence": {"estimate": 0.1}, "perplexity_delta": {"estimate": 0.5}}  # fmt: skip
    layers = {"protocol": "gptq_512", "grain": "linear", "perplexity": 20.0, "rows": [layer]}
    good.stages.append(stage("sensitivity", "baseline", layers))
    good.stages.append(stage("tasks", "recipe", tasks(0.6, CHANGE, 75.0)))
    kept = dict(os.environ)
    checkpoint = directory / "store" / "objects" / "quantize" / KEY
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    good.config = {**good.config, "store": {"root": str(directory / "store")}}
    try:
        for _ in range(2):
            follow(config, good)
        failed = record(2, "x", [], status=Status.failed, reason="killed by signal 9")
        answer = directory / "answer.md"
        answer.write_text("# answer")
        picture = directory / "sensitivity-small-linear.png"
        Image.new("RGB", (4, 4)).save(picture)
        records, files = [good, failed], [answer, picture]
        summarise_sweep(config, SweepEnd("demo", records, rows_of(records), files), Display())
        good.run, config.checkpoints = "003-other", Checkpoints.upload
        good.status, good.reason = Status.oom, "out of memory after its checkpoint"
        follow(config, good)
    finally:
        os.environ.clear()
        os.environ.update(kept)
    logs = sorted(directory.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_ctime)
    return [{**read_back(path), "directory": path.parent, "tracking": directory} for path in logs]


def follow(config: Tracker, good: RunRecord) -> None:
    tracker = start(config, good, Display())
    for done in (0, 1, 2, 4):
        tracker.log_progress("eval unquantized", done, 4, "scoring windows, batch 1")
    for entry in good.stages:
        tracker.log_stage(entry)
    deadline = time.monotonic() + 300
    while not _has_system_metrics(Path(config.directory)):
        assert time.monotonic() < deadline, "the system's metrics were never looked at"
        time.sleep(0.1)
    tracker.finish(good)


def _has_system_metrics(tracking: Path) -> bool:
    """Whether the run that began last has some in its log."""
    newest = max(tracking.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_ctime)
    return b"rssMB" in newest.read_bytes()


def ids(runs: list[dict[str, Any]]) -> list[str | None]:
    return [find(run, "run_id") or find(run, "runId") for run in runs]


def test_a_restarted_run_is_the_same_run(runs: list[dict[str, Any]]) -> None:
    first, again, summary, other = ids(runs)
    assert first == again
    assert len({first, summary, other, None}) == 4


def test_ids_tell_stores_sweeps_and_runs_apart(tmp_path: Path) -> None:
    here, there = (Tracker(directory=str(tmp_path / name)) for name in ("a", "b"))
    found = {run_id(here, "s", "r"), run_id(there, "s", "r"), run_id(here, "t", "r"),
             run_id(here, "s", "q")}  # fmt: skip
    assert len(found) == 4


def test_how_a_run_presents_itself(runs: list[dict[str, Any]]) -> None:
    for part in ("nightly", "a note", "mine", "gptq-w4a16-g64"):
        assert part in runs[0]["text"], part
    for run in runs:
        for part in ("our-project", "our-team", "our-group"):
            assert part in run["text"], part


def test_progress_is_a_curve_that_ends_at_one(runs: list[dict[str, Any]]) -> None:
    name = "progress/eval_baseline_scoring_windows_batch_1"
    told = [line for line in runs[0]["text"].splitlines() if name in line and "history" in line]
    # The points between come too soon after the first, unless the machine is busy.
    assert 2 <= len(told) <= 4


def test_wandb_holds_the_systems_metrics(runs: list[dict[str, Any]]) -> None:
    assert "proc.memory.rssMB" in runs[0]["text"]


def test_samples_are_a_table_and_results_an_artifact(runs: list[dict[str, Any]]) -> None:
    text = runs[0]["text"]
    for part in (
        "bench/samples",
        "bench/quantiles",
        "result-demo-001-gptq-w4a16-g64",
        f"checkpoint-{KEY}",
    ):
        assert part in text, part
    artifacts = [line for line in text.splitlines() if "base_model" in line]
    assert len(artifacts) == 2, "checkpoint and result, each with where it comes from"
    assert all(KEY in line and "evaluation" in line for line in artifacts)
    assert "file:///" in text, "the checkpoint, by reference"


def test_wandb_holds_layers_and_tasks_as_tables(runs: list[dict[str, Any]]) -> None:
    names = (
        "sensitivity/baseline_linear",
        "tasks/scores",
        "sensitivity/baseline_perplexity/gptq_512",
    )
    for part in (*names, "tasks/acc_recovery_percent/facts"):
        assert part in runs[0]["text"], part
    # Tables lie beside the log.
    files = [path.read_text() for path in runs[0]["directory"].rglob("*.table.json")]
    for content in ("model.layers.3.mlp.down_proj", '"answers_changed"', '"repetition"'):
        assert any(content in text for text in files), content


def test_wandb_plots_the_sweep(runs: list[dict[str, Any]]) -> None:
    for part in ("answer/quality_over_size", "answer/quality_over_speed", "wandb/scatter/v0"):
        assert part in runs[2]["text"], part


def test_a_checkpoint_is_uploaded_on_request(runs: list[dict[str, Any]]) -> None:
    assert "file:///" not in runs[3]["text"]
    # Staged as part of the artifact, for whenever it is sent.
    staged = runs[3]["tracking"].rglob("*")
    assert any(path.is_file() and path.read_bytes() == b"weights" for path in staged
               if "objects" not in path.parts)  # fmt: skip


def test_offline_runs_are_listed_and_sent_only_with_credentials(
    runs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    where = [f"tracker.directory={quoted(runs[0]['tracking'])}", f"store.root={quoted(tmp_path)}"]
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert execute(["list", *where]) == 0
    assert "4 runs in" in capsys.readouterr().out
    assert execute(["sync", *where]) == 2
    assert "set WANDB_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert execute(["sync", *where]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert execute(["sync", "nosuch", *where]) == 2


def test_what_the_server_refuses_stays(
    runs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        directory = f"tracker.directory={quoted(runs[0]['tracking'])}"
        assert execute(["sync", directory, f"store.root={quoted(tmp_path)}"]) == 1
        server.shutdown()
    said = capsys.readouterr()
    assert "0 of 4 runs uploaded" in said.out
    assert "401" in said.err, "why, in W&B's words"


def test_a_checkpoint_that_passed_the_gate_is_promoted_in_a_run_of_its_own(tmp_path: Path) -> None:
    made = recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
    made.config = {**made.config, "store": {"root": str(tmp_path)}}
    checkpoint = tmp_path / "objects" / "quantize" / KEY
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    config, kept = Tracker(name="wandb", directory=str(tmp_path)), dict(os.environ)
    try:
        promote_checkpoint(config, made, Display())
    finally:
        os.environ.clear()
        os.environ.update(kept)
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    run = read_back(log)
    (artifact,) = parts(run, "artifact")
    assert set(artifact["aliases"]) == {"latest", "candidate", "promoted"}
    assert find(run, "job_type") == "gate"


def test_a_checkpoint_that_is_not_there_any_more_is_none(tmp_path: Path) -> None:
    made = recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
    made.config = {**made.config, "store": {"root": str(tmp_path)}}
    assert checkpoint_artifact(made, Checkpoints.reference) is None
    (tmp_path / "objects" / "quantize" / KEY).mkdir(parents=True)
    artifact = checkpoint_artifact(made, Checkpoints.reference)
    assert artifact is not None and artifact.name.startswith(f"checkpoint-{KEY}")


def test_whoever_has_no_home_gets_the_trackers_folder_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.reporting.tracking.wandb_run.own_home", lambda: None)
    kept, made = dict(os.environ), recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
    try:
        start(Tracker(name="wandb", directory=str(tmp_path)), made, Display()).finish(made)
        assert os.environ["HOME"] == str(tmp_path)
    finally:
        os.environ.clear()
        os.environ.update(kept)


def test_the_sweep_has_a_summary_and_an_alert(runs: list[dict[str, Any]]) -> None:
    text = runs[2]["text"]
    for part in ("1 of 2 runs failed", "killed by signal 9", "answer-demo", "runs/failed",
                 "figures/sensitivity-small-linear"):  # fmt: skip
        assert part in text, part


def test_a_run_that_failed_sends_an_alert_where_that_is_wanted(runs: list[dict[str, Any]]) -> None:
    assert "demo/003-other: oom" in runs[3]["text"]
