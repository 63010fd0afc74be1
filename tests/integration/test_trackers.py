"""The other trackers behind the same interface, in a process of its own where each is installed."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

PACKAGES = {"trackio": "trackio==0.43.0", "mlflow": "mlflow-skinny==3.17.2"}
FOLLOW = """
import json, sys
from pathlib import Path
from runner.reporting.rows import rows_of
from runner.config.schema.tracker import AlertOn, Tracker
from runner.reporting.display import Display
from runner.store.records import Status
from runner.reporting.tracking import promote_checkpoint, start_tracker, summarise_sweep
from runner.reporting.tracking.base import SweepEnd
from tests.unit.records import recipe, record

name, folder = sys.argv[1], Path(sys.argv[2])
config = Tracker(name=name, directory=str(folder), tags=["mine"], notes="by hf_" + "x" * 24)
config.alerts += [AlertOn.run_failed]
good = recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
good.config["environment"] = {"default": {"packages": ["torch==2.13.0"]}}
for _ in range(2):
    tracker = start_tracker(config, good, Display())
    for done in (1, 2):
        tracker.log_progress("eval unquantized", done, 2, "scoring windows")
    for stage in good.stages:
        tracker.log_stage(stage)
    tracker.finish(good)
failed = record(2, "x", [], status=Status.failed, reason="killed by signal 9")
start_tracker(config, failed, Display()).finish(failed)
promote_checkpoint(config, good, Display())
records = [good, failed]
take = {"scope": "small", "outcome": "take", "headline": "Take it", "take": {"recipe": "gptq"}}
(folder / "answer.json").write_text(json.dumps({"verdict": [take]}))
end = SweepEnd("demo", records, rows_of(records), [folder / "answer.json"])
summarise_sweep(config, end, Display())
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each tracker kept of a run, the same one again, one that failed, and the sweep.

    The packages lie apart from .venv, some of whose pins trackio does not share.
    """
    kept = {}
    for name, package in PACKAGES.items():
        library, kept[name] = (tmp_path_factory.mktemp(name) for _ in range(2))
        _install(library, package, constrained=name == "mlflow")
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", FOLLOW, name, str(kept[name])],
            env={**os.environ, "PYTHONPATH": f"{library}:{root}", "HOME": str(kept[name])},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr, done.stderr
    return kept


def _install(folder: Path, package: str, *, constrained: bool) -> None:
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable]
    for links in os.environ.get("PIP_FIND_LINKS", "").split():
        uv += ["--find-links", links]
    if index := os.environ.get("PIP_INDEX_URL"):
        uv += ["--index-url", index]
    if constrained:
        uv += ["--constraints", str(Path(__file__).parents[2] / "constraints.txt")]
    subprocess.run([*uv, "--target", folder, package], check=True)


def test_trackio_follows_a_run_and_goes_on_when_it_is_restarted(folders: dict[str, Path]) -> None:
    (database,) = (folders["trackio"] / "trackio").glob("*.db")
    connection = sqlite3.connect(database)
    metrics = connection.execute("select run_name, metrics from metrics").fetchall()
    names = {name for name, _ in metrics}
    assert names == {"demo/001-gptq-w4a16-g64", "demo/002-x", "demo/summary"}
    logged = [json.loads(content) for _, content in metrics]
    assert any(content.get("eval/perplexity/gptq_512") == 21.0 for content in logged)
    assert any(content.get("eval/baseline_perplexity/gptq_512") == 20.0 for content in logged)
    assert any(content.get("verdict/take") == "gptq" for content in logged)
    progress = "progress/eval_baseline_scoring_windows"
    assert [content[progress] for content in logged if progress in content] == [0.5, 1.0] * 2
    tables = [name for (name,) in connection.execute("select name from sqlite_master")]
    cells = [
        cell.decode() if isinstance(cell, bytes) else str(cell)
        for table in ("metrics", "configs", "alerts")
        for row in connection.execute(f"select * from {table}")
        for cell in row
    ]
    assert {"metrics", "configs", "alerts"} <= set(tables)
    everything = "\n".join(cells)
    for part in (
        "mine",
        "group_size.size",
        "killed by signal 9",
        "1 of 2 runs failed",
        "demo/002-x: failed",
    ):
        assert part in everything, part
    assert "hf_xxxx" not in everything


def test_mlflow_follows_a_run_and_goes_on_when_it_is_restarted(folders: dict[str, Path]) -> None:
    runs = {run["tags/mlflow.runName"]: run for run in mlflow_runs(folders["mlflow"] / "mlruns")}
    assert set(runs) == {"demo/001-gptq-w4a16-g64", "demo/002-x", "demo/summary"}
    good = runs["demo/001-gptq-w4a16-g64"]
    assert value(good, "eval/perplexity_gptq_512") == value(good, "eval/perplexity") == 21.0
    assert value(good, "eval/baseline_perplexity_gptq_512") == 20.0
    points = good["metrics/progress/eval_baseline_scoring_windows"].splitlines()
    assert [float(point.split()[1]) for point in points] == [0.5, 1.0] * 2
    assert good["params/group_size.size"] == "64"
    assert (good["tags/status"], good["tags/quant_runner.promoted"]) == ("ok", "true")
    assert "torch==2.13.0" in good["artifacts/environments.json"]
    assert not any(name.startswith("params/environment.") for name in good)
    assert "p99" in good["artifacts/bench/quantiles.json"]
    assert "by ***" in good["tags/mlflow.note.content"]
    assert "status: 4" in runs["demo/002-x"]["meta.yaml"], "failed"
    assert runs["demo/002-x"]["tags/reason"] == "killed by signal 9"
    assert runs["demo/summary"]["tags/verdict/take"] == "gptq"
    assert "gptq-w4a16-g64" in runs["demo/summary"]["artifacts/answer/rows.json"]
    assert not any("hf_xxxx" in text for run in runs.values() for text in run.values())


def mlflow_runs(store: Path) -> list[dict[str, str]]:
    """The texts of each run's files by path, in a folder of MLflow's."""
    places = {path.parent for path in store.glob("*/*/meta.yaml")}
    return [
        {
            str(path.relative_to(place)): path.read_text()
            for path in place.rglob("*")
            if path.is_file()
        }
        for place in places
    ]


def value(run: dict[str, Any], name: str) -> float:
    """The last value of a metric: lines of time, value and step."""
    return float(run[f"metrics/{name}"].splitlines()[-1].split()[1])
