"""Predicted beside measured times, calibrated on real runs of this machine."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import run
from runner.answer.report import report

pytestmark = pytest.mark.integration

WIDTHS = (64, 128, 192)


def test_benched_runs_calibrate_predictions_and_plans(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three generated models: each is predicted from the other two, and a plan from all."""
    for width in WIDTHS:
        shape = [
            f"model.name=tiny_{width}",
            f"model.architecture.hidden={width}",
            f"model.architecture.intermediate={2 * width}",
            "model.architecture.parameters=null",
        ]
        done = run(
            ["model=tiny", *shape, "method=none", "stages=[bench]", "bench.repetitions=1",
             "bench.batch_sizes=[1,2]", "bench.new_tokens=4", "tracker=none", "sweep=sizes",
             f"engine.threads={1}"]
        )  # fmt: skip
        assert done.status.value == "ok", done.reason
    report(store / "runs", "sizes", tmp_path)
    printed = capsys.readouterr().out
    assert "hf: predicted decode times of" in printed
    with (tmp_path / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    for row in rows:
        assert float(row["uncalibrated_seconds"]) > 0
        assert float(row["measured_seconds"]) > 0
        assert row["held_as"] in ("fp32", "bf16")
