"""Predicted beside measured times, calibrated on real runs of this machine."""

import csv
import json
from pathlib import Path

import pytest

from tests.integration.conftest import Called, here

pytestmark = pytest.mark.integration

SIZES = (
    "model=tiny",
    "model.name=tiny_${model.architecture.hidden}",
    "model.architecture.hidden=80,144,208",
    "model.architecture.parameters=null",
)


def test_benched_runs_calibrate_predictions_and_plans(
    fresh: dict[str, str], tmp_path: Path
) -> None:
    """Three generated models: each is predicted from the other two, and a plan from all."""
    store = Path(fresh["QUANT_RUNNER_STORE"])

    def command(*arguments: str) -> Called:
        return here(*arguments, cwd=tmp_path, variables=fresh)

    asked = ("method=none", "stages=[bench]", "bench=quick", "bench.batch_sizes=[1,2]")
    done = command("-m", *SIZES, *asked, "tracker=none", "sweep=sizes", "plan.show_measured=true")
    assert done.returncode == 0, done.stderr
    assert "predicted and measured decode time" in done.stdout
    assert "hf, predicted decode time: median error" in done.stdout
    assert "% from published kernels (6 cases)," in done.stdout
    assert "calibrated on other models here (6 cases)" in done.stdout
    with (store / "runs" / "sizes" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["model"] for row in rows} == {"tiny_80", "tiny_144", "tiny_208"}
    # Never on a case itself.
    assert {int(row["calibrated_on"]) for row in rows} == {4}
    assert all(float(row["calibrated_seconds"]) > 0 for row in rows)
    assert all(float(row["uncalibrated_seconds"]) > 0 for row in rows)

    plan = ("stages=[plan]", "plan.devices=[local]", "plan.recipes=[bf16,w4a16-g32]")
    small = ("plan.context_length=64", "plan.prompt_tokens=32", "plan.tensor_parallel=[1]")
    done = command(*plan, *small, "model=tiny", "tracker=none", "sweep=planned")
    assert done.returncode == 0, done.stderr
    assert "calibrated here" in done.stdout and "(fitted here)" in done.stdout
    content = json.loads((store / "runs" / "planned" / "plan.json").read_text())
    dense, four = content["plans"][0]["options"]
    # Engine hf unpacks either to the same floats here.
    assert dense["weight_bytes"] == four["weight_bytes"]
    times = ("time_per_output_token_seconds", "time_to_first_token_seconds")
    assert [dense[name] for name in times] == [four[name] for name in times]
    assert dense["source"].startswith("calibrated: 6 cases of hf here")
    assert list(tmp_path.glob("outputs/*/*/plan.csv"))
