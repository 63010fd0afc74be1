"""A search: a few runs out of a space, gone on with after it was stopped."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import Called, records

pytestmark = pytest.mark.integration


def test_a_search_goes_on_and_runs_nothing_twice_nor_what_is_illegal(
    command: Callable[..., Called], store: Path, prose: Path
) -> None:
    search = ("-m", "hydra/sweeper=search", "model=tiny", "eval=quick", "text@eval.text=local",
              f"eval.text.path={quoted(prose)}", "eval.context_length=64", "stages=[quantize,eval]",
              "method=none", "bits=bf16,fp16,fp32,w4a16", "model.seed=5,6", "tracker=none",
              "hydra.sweeper.objectives=[perplexity,bits_per_weight]", "sweep=sought")  # fmt: skip
    first = command(*search, "hydra.sweeper.runs=3")
    assert first.returncode == 0, first.stderr
    assert "search: 3 runs" in first.stdout
    before = records(store, "sought")
    assert [record["status"] for record in before] == ["ok"] * 3

    # As a process that is killed in its third run leaves it.
    path = store / "runs" / "sought" / before[2]["run"] / "record.json"
    path.write_text(json.dumps({**before[2], "status": "interrupted"}))
    again = command(*search, "hydra.sweeper.runs=20")
    assert again.returncode == 0, again.stderr
    after = records(store, "sought")
    assert [record["status"] for record in after] == ["ok"] * 6, "every legal point"
    assert after[:2] == before[:2]
    assert all(stage["reused"] for stage in after[2]["stages"])
    points = {(r["config"]["bits"]["weight"]["type"], r["config"]["bits"]["weight"]["num_bits"],
               r["config"]["model"]["seed"]) for r in after}  # fmt: skip
    assert len(points) == 6
    assert "6 runs, 2 illegal points" in again.stdout

    front = json.loads((store / "runs" / "sought" / "front.json").read_text())["front"]
    values = [list(one["values"].values()) for one in front]
    assert values == sorted(values)
    best = min(v["result"]["perplexity"]["value"] for r in after for v in r["stages"][-1:])
    assert values[0][0] == pytest.approx(best)

    other = command(*search, "bits=bf16,fp16")
    assert other.returncode == 2
    assert "sweep sought has another search space" in other.stderr
