"""Weights & Biases: the offline run read back, and credentials that stay out of everything."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import TINY, Called, records

pytestmark = pytest.mark.integration

TOKEN = "hf_thisIsATokenThatMustNotShow"
KEY = "0123456789abcdefthisIsAKeyThatMustNotShow"


def read_back(file: Path) -> dict[str, Any]:
    """Content of a W&B transaction log, as ``wandb leet inspect`` prints it."""
    printed = subprocess.run(
        [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", file],
        capture_output=True, text=True, check=True,
        env={**os.environ, "WANDB_DIR": str(file.parent), "HOME": str(file.parent)},
    ).stdout  # fmt: skip
    return {"text": printed, "records": [json.loads(line) for line in printed.splitlines()]}


@pytest.fixture(scope="module")
def tracked(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A sweep of an ok, a skipped and a failed run with W&B offline, and secrets around."""
    work = tmp_path_factory.mktemp("tracked")
    short = work / "short.txt"
    short.write_text("A text that is soon over. " * 40)
    tracking = work / "tracking"
    variables = {"HF_TOKEN": TOKEN, "WANDB_API_KEY": KEY, "QUANT_RUNNER_STORE": str(store)}
    done = subprocess.run(
        [sys.executable, "-m", "runner", "-m", *TINY, "method=rtn,none", "bits=w4a16",
         "eval.windows=4,300", "text@eval.text=local", f"eval.text.path={quoted(short)}",
         "stages=[quantize,eval]", f"tracker.notes=by {TOKEN}", "tracker.tags=[mine]",
         f"tracker.directory={quoted(tracking)}", "sweep=tracked"],
        cwd=work, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    runs = [read_back(path) for path in sorted(tracking.glob("wandb/offline-run-*/*.wandb"))]
    ordinary = [run for run in runs if "tracked summary" not in run["text"]]
    # Folders are named by the second: runs that began in the same one lie in any order.
    ordinary.sort(key=lambda run: str(find(run, "display_name") or find(run, "displayName")))
    summaries = [run for run in runs if run not in ordinary]
    return {
        "done": done, "runs": ordinary, "summaries": summaries, "tracking": tracking, "work": work
    }  # fmt: skip


def test_wandb_has_one_run_a_job_with_its_status(tracked: dict[str, Any], store: Path) -> None:
    statuses = [record["status"] for record in records(store, "tracked")]
    assert statuses == ["ok", "failed", "skipped", "skipped"]
    assert tracked["done"].returncode == 1
    assert len(tracked["runs"]) == len(statuses)
    ids = {find(run, "run_id") or find(run, "runId") for run in tracked["runs"]}
    assert len(ids) == len(statuses)
    for run, status in zip(tracked["runs"], statuses, strict=True):
        assert exit_code(run) == (1 if status == "failed" else 0)
        assert f'\\"{status}\\"' in run["text"] or f'"{status}"' in run["text"]


def test_wandb_has_a_run_for_the_sweep(tracked: dict[str, Any]) -> None:
    (summary,) = tracked["summaries"]
    assert "1 of 4 runs failed" in summary["text"]
    assert "report.html" in summary["text"]
    assert {"answer/page._type", "figures/quality_vs_size._type"} <= logged(
        summary, "history", "item"
    )
    assert {"verdict/outcome", "verdict/headline"} <= logged(summary, "summary", "update")
    assert exit_code(summary) == 1


def test_wandb_holds_config_and_metrics(tracked: dict[str, Any]) -> None:
    text = tracked["runs"][0]["text"]
    for part in ("tracked", "mine", "rtn-w4a16-g32", "num_bits", "eval/perplexity/spread_128",
                 "eval/baseline_perplexity/spread_128", "eval/perplexity_delta_low/spread_128",
                 "eval/kl_mean/spread_128", "eval/quantiles", "quantize/bits_per_weight",
                 "progress/eval_baseline_scoring_windows"):  # fmt: skip
        assert part in text, part


def test_wandb_has_a_section_a_stage_and_a_dozen_numbers_that_decide(
    tracked: dict[str, Any],
) -> None:
    run = tracked["runs"][0]
    names = {name.partition("._")[0].partition(".")[0] for name in logged(run, "history", "item")}
    stages = {"quantize", "eval", "floor", "progress", "run", "overlap"}
    own = {name for name in names if not name.startswith("_")}
    assert {name.partition("/")[0] for name in own} <= stages
    assert not [name for name in own if not re.fullmatch(r"\w+/[\w-]+(/[\w-]+)?", name)]
    steps = {metric.get("glob_name"): metric.get("step_metric") for metric in parts(run, "metric")}
    assert steps["eval/*"] == "run/stage"
    assert steps["progress/*"] == "run/elapsed_seconds"
    summary = {name for name in logged(run, "summary", "update") if not name.startswith("_")}
    decides = {name for name in summary if "quantiles" not in name}
    assert {"status", "eval/perplexity", "eval/kl_mean", "quantize/bits_per_weight"} <= decides
    assert len(decides) <= 12, decides


def test_pins_are_an_artifact_and_not_configuration(tracked: dict[str, Any]) -> None:
    run = tracked["runs"][0]
    configured = json.dumps(parts(run, "run"))
    assert "environments" in configured
    assert "llama_cpp_cuda" not in configured
    artifacts = {one["name"]: one for one in parts(run, "artifact")}
    (pins,) = (one for name, one in artifacts.items() if name.startswith("environments-"))
    assert "environments.json" in json.dumps(pins["manifest"])
    (checkpoint,) = (one for name, one in artifacts.items() if name.startswith("checkpoint-"))
    assert set(checkpoint["aliases"]) == {"latest", "candidate"}


def test_credentials_are_nowhere(tracked: dict[str, Any], store: Path) -> None:
    printed = tracked["done"].stdout + tracked["done"].stderr
    # Installed packages are the same for everybody, and a hundred thousand files.
    folders = [path for path in store.iterdir() if path.name != "environments"]
    files = [path for folder in (*folders, tracked["work"]) for path in folder.rglob("*")]
    for secret in (TOKEN, KEY):
        assert secret not in printed
        for run in tracked["runs"]:
            assert secret not in run["text"]
        for path in files:
            if path.is_file() and path.suffix not in (".safetensors", ".whl", ".gguf"):
                assert secret.encode() not in path.read_bytes(), path
    assert "by ***" in tracked["runs"][0]["text"]


def test_no_network_means_offline_not_stuck(
    process: Callable[..., Called], tmp_path: Path, store: Path
) -> None:
    done = process(
        *TINY, "method=none", "stages=[eval]", "tracker.mode=online", "sweep=online",
        "tracker.connect_timeout_seconds=3", f"tracker.directory={quoted(tmp_path)}",
        WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY="0" * 40,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "W&B is unreachable" in done.stderr
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 1


def test_tracker_none_writes_nothing(process: Callable[..., Called], tmp_path: Path) -> None:
    done = process(
        *TINY,
        "method=none",
        "stages=[eval]",
        "tracker=none",
        f"tracker.directory={quoted(tmp_path / 't')}",
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "t").exists()


def find(run: dict[str, Any], name: str) -> str | None:
    """First value under a key, however deep."""

    def search(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get(name):
                return value[name]
            value = list(value.values())
        if isinstance(value, list):
            return next(filter(None, map(search, value)), None)
        return None

    return search(run["records"])


def parts(run: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """All entries of a kind."""
    return [entry[kind] for entry in run["records"] if kind in entry]


def logged(run: dict[str, Any], kind: str, field: str) -> set[str]:
    """Names of all that was logged."""
    return {name for entry in parts(run, kind) for name in entry.get(field, {})}


def exit_code(run: dict[str, Any]) -> int:
    """Exit code of the run's closing record; protobuf leaves out a zero."""
    for record in run["records"]:
        for holder in (record, record.get("record", {}), record.get("data", {})):
            if isinstance(holder, dict) and "exit" in holder:
                found = holder["exit"] or {}
                return int(found.get("exit_code", found.get("exitCode", 0)))
    pytest.fail("the run has no exit record")
