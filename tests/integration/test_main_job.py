"""One run from the command line to the store, and what a second call reuses."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import TINY, Called, elsewhere, keys, records

pytestmark = pytest.mark.integration

RECIPE = (*TINY, "method=gptq", "calibration.samples=8", "calibration.sequence_length=64",
          "tracker=none")  # fmt: skip
_SLACK_SECONDS = 10.0
"""Twice what a run of a second or two takes longer on a machine that does other things besides."""


@pytest.fixture(scope="module")
def first(
    store: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Called:
    """The run that the others are compared with."""
    return elsewhere(
        *RECIPE, "tracker=wandb", "sweep=first",
        cwd=tmp_path_factory.mktemp("work"), variables=environment,
    )  # fmt: skip


def test_a_run_is_recorded_and_answered(first: Called, store: Path) -> None:
    assert first.returncode == 0, first.stderr
    (record,) = records(store, "first")
    assert record["status"] == "ok"
    assert record["config"]["method"]["name"] == "gptq"
    assert record["versions"]["hydra-core"] != "absent"
    assert record["stages"][0]["versions"]["llmcompressor"] != "absent"
    assert {entry["environment"] for entry in record["stages"]} == {"default"}
    assert record["host"]["usable_cores"] >= 1
    stages = [(entry["stage"], entry["subject"]) for entry in record["stages"]]
    assert stages == [
        ("quantize", "recipe"),
        ("overlap", "recipe"),
        ("eval", "baseline"),
        ("eval", "recipe"),
        ("bench", "baseline"),
        ("bench", "recipe"),
    ]
    for shown in ("unquantized", "gptq-w4a16-g32", "spread_128", "Pareto-optimal"):
        assert shown in first.stdout
    rows = list(csv.DictReader((store / "runs" / "first" / "answer.csv").open()))
    assert [row["recipe"] for row in rows] == ["unquantized", "gptq-w4a16-g32"]
    answer = json.loads((store / "runs" / "first" / "answer.json").read_text())
    assert answer["rows"][1]["perplexity"] == pytest.approx(float(rows[1]["perplexity"]))


def test_the_manifest_accounts_for_every_byte(first: Called, store: Path) -> None:
    (record,) = records(store, "first")
    ((_, key, _),) = keys(record, "quantize")
    directory = store / "objects" / "quantize" / key
    manifest = json.loads((directory / "result.json").read_text())
    result = manifest["result"]
    assert result["recipe"]["method"]["name"] == "gptq"
    assert result["calibration_tokens"] == 8 * 64
    assert manifest["resources"]["peak_memory_bytes"] > 1e8
    assert manifest["resources"]["seconds"] > 0
    # 4 bits, a 16-bit scale every 32 weights, and a shape of 16 bytes in layers this small.
    assert 4.5 <= result["bits_per_weight"] < 4.7
    shares = result["tensors"]["by_dtype"].values()
    stored = sum(path.stat().st_size for path in directory.glob("checkpoint/*.safetensors"))
    assert sum(share["bytes"] for share in shares) == result["tensors"]["bytes"]
    assert 0 < stored - result["tensors"]["bytes"] < 20_000
    assert result["checkpoint_bytes"] == stored


def test_a_second_call_reuses_all_but_speed(
    first: Called, command: Callable[..., Called], store: Path
) -> None:
    again = command(*RECIPE, "sweep=again")
    assert again.returncode == 0, again.stderr
    assert "quantize gptq-w4a16-g32: reused" in again.stderr
    assert "eval gptq-w4a16-g32: reused" in again.stderr
    (old,), (new,) = records(store, "first"), records(store, "again")
    for stage in ("quantize", "eval"):
        assert [found[:2] for found in keys(new, stage)] == [f[:2] for f in keys(old, stage)]
        assert all(reused for _, _, reused in keys(new, stage))
    assert not any(reused for _, _, reused in keys(new, "bench"))


def test_other_speed_settings_do_not_requantize(
    first: Called, command: Callable[..., Called], store: Path
) -> None:
    done = command(*RECIPE, "bench.new_tokens=4", "bench.reuse=true", "sweep=bench")
    assert done.returncode == 0, done.stderr
    (record,) = records(store, "bench")
    assert keys(record, "quantize")[0][2]


def test_another_recipe_or_force_does(
    first: Called, command: Callable[..., Called], store: Path
) -> None:
    seed = ("stages=[quantize,eval]", "calibration.seed=1", "sweep=seed")
    looked = command(*RECIPE, *seed, "dry_run=true")
    assert command(*RECIPE, *seed).returncode == 0
    # By what the first run's stages took on this machine.
    told = re.search(r"1 would run: about (\d+) s, ", looked.stdout)
    (took,) = (record["seconds"] for record in records(store, "seed"))
    assert told and took / 2 - _SLACK_SECONDS < int(told[1]) < 2 * took + _SLACK_SECONDS
    paged = ("stages=[quantize,eval,report]",)
    assert command(*RECIPE, *paged, "force=[eval]", "sweep=force").returncode == 0
    written = {path.name for path in (store / "runs" / "force").rglob("*") if path.is_file()}
    assert {"report.html", "quality_vs_size.svg"} <= written
    assert "report.html" not in {path.name for path in (store / "runs" / "seed").iterdir()}
    (old,), (seed,), (force,) = (records(store, name) for name in ("first", "seed", "force"))
    assert keys(seed, "quantize")[0][1] != keys(old, "quantize")[0][1]
    assert keys(force, "quantize") == [("recipe", keys(old, "quantize")[0][1], True)]
    assert not any(reused for _, _, reused in keys(force, "eval"))


def test_the_report_is_rebuilt_from_the_store(
    first: Called, command: Callable[..., Called]
) -> None:
    report = command("stages=[report]", "sweep=first")
    assert report.returncode == 0, report.stderr
    assert report.stdout.strip().splitlines()[:8] == first.stdout.strip().splitlines()[:8]


def test_nothing_unfinished_is_left(first: Called, store: Path) -> None:
    (record,) = records(store, "first")
    made = {entry["key"] for entry in record["stages"]}
    # Other tests kill processes, whose leftovers wait for the next who needs the same result.
    assert made.isdisjoint(path.name.split("-")[1] for path in (store / "staging").iterdir())
    assert not [p for p in (store / "objects").rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]


def test_a_sweep_goes_on_past_what_cannot_be(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Too short a text for sixteen windows. " * 20)
    swept = command(
        "-m", *TINY, "method=none,rtn", "bits=bf16,w4a16", "stages=[quantize,eval]", "sweep=mixed",
        "tracker=none",
    )  # fmt: skip
    assert swept.returncode == 0, swept.stderr
    found = {r["run"]: (r["status"], r["reason"]) for r in records(store, "mixed")}
    assert found["000-none-bf16"] == ("ok", None)
    assert found["003-rtn-w4a16-g32"] == ("ok", None)
    assert found["001-none-w4a16"][0] == found["002-rtn-bf16-g32"][0] == "skipped"
    assert "bits=" in found["001-none-w4a16"][1]
    failing = command(
        "-m", *TINY, "method=none", "eval.windows=4,400", "stages=[eval]", "text@eval.text=local",
        f"eval.text.path={quoted(short)}", "sweep=failing", "tracker=none",
    )  # fmt: skip
    assert failing.returncode == 1
    statuses = [(r["status"], r["reason"] or "") for r in records(store, "failing")]
    assert [status for status, _ in statuses] == ["ok", "failed"]
    assert "reduce the number of windows" in statuses[1][1]
