"""The second tracker behind the same interface, in a process of its own where it is installed."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

FOLLOW = """
import sys
from runner.reporting.rows import rows_of
from runner.config.schema.tracker import AlertOn, Tracker
from runner.reporting.display import Display
from runner.store.records import Status
from runner.reporting.tracking import start_tracker, summarise_sweep
from runner.reporting.tracking.base import SweepEnd
from tests.unit.records import recipe, record

config = Tracker(name="trackio", directory=sys.argv[1], tags=["mine"], notes="by hf_" + "x" * 24)
config.alerts += [AlertOn.run_failed]
good = recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
for _ in range(2):
    tracker = start_tracker(config, good, Display())
    for done in (1, 2):
        tracker.log_progress("eval unquantized", done, 2, "scoring windows")
    for stage in good.stages:
        tracker.log_stage(stage)
    tracker.finish(good)
failed = record(2, "x", [], status=Status.failed, reason="killed by signal 9")
start_tracker(config, failed, Display()).finish(failed)
records = [good, failed]
summarise_sweep(config, SweepEnd("demo", records, rows_of(records), []), Display())
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """trackio apart from .venv, some of whose pins it does not share."""
    folder = tmp_path_factory.mktemp("trackio")
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable]
    for links in os.environ.get("PIP_FIND_LINKS", "").split():
        uv += ["--find-links", links]
    if index := os.environ.get("PIP_INDEX_URL"):
        uv += ["--index-url", index]
    subprocess.run([*uv, "--target", folder, "trackio==0.43.0"], check=True)
    return folder


def test_a_run_is_followed_and_goes_on_when_restarted(library: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FOLLOW, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{library}:{root}", "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    (database,) = (tmp_path / "trackio").glob("*.db")
    connection = sqlite3.connect(database)
    metrics = connection.execute("select run_name, metrics from metrics").fetchall()
    names = {name for name, _ in metrics}
    assert names == {"demo/001-gptq-w4a16-g64", "demo/002-x", "demo/summary"}
    logged = [json.loads(content) for _, content in metrics]
    assert any(content.get("perplexity/gptq_512") == 21.0 for content in logged)
    assert any(content.get("baseline/perplexity/gptq_512") == 20.0 for content in logged)
    progress = "baseline/progress/eval/scoring_windows"
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
