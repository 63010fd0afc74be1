"""docs/extending.md: its examples are a package; it is installed beside the wheel and used."""

import csv
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.integration.conftest import Called

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "tests" / "plugin_package"
BLOCK = re.compile(
    r"^`(tests/plugin_package/[\w/.]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the two wheels; libraries are borrowed."""
    work = tmp_path_factory.mktemp("installed")
    for project in (CHECKOUT, PACKAGE):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", work / "wheels"],
            cwd=project, check=True, capture_output=True,
        )  # fmt: skip
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    python = work / "environment" / "bin" / "python"
    subprocess.run(
        [uv, "venv", "--offline", "-q", "-p", sys.executable, work / "environment"], check=True
    )
    subprocess.run(
        [uv, "pip", "install", "--offline", "--no-deps", "-q", "-p", python,
         *(work / "wheels").glob("*.whl")],
        check=True,
    )  # fmt: skip
    (site,) = (work / "environment" / "lib").glob("*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def called(
    installed: Path, tmp_path: Path, environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls the environment's ``runner`` from an empty directory."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        variables = {k: v for k, v in environment.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [installed.with_name("runner"), *words],
            cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    return call


def test_the_page_shows_the_packages_files() -> None:
    shown = BLOCK.findall((CHECKOUT / "docs" / "extending.md").read_text())
    for path, content in shown:
        assert content == (CHECKOUT / path).read_text(), path
    own = {p.relative_to(CHECKOUT).as_posix() for p in PACKAGE.rglob("*.*") if p.suffix != ".pyc"}
    assert {path for path, _ in shown} == {
        path for path in own if "__init__" not in path and "/texts/" not in path
    }


def test_a_method_an_engine_a_tracker_and_a_text_of_a_plug_in_run(
    called: Callable[..., subprocess.CompletedProcess[str]], store: Path
) -> None:
    called(
        "-m", "method=ternary", "engine=hf,uncached", "model=tiny", "eval=quick",
        "text@eval.text=fables", "bench=quick", "bench.new_tokens=48", "tracker=csv_file",
        "sweep=extended",
    )  # fmt: skip
    rows = json.loads((store / "runs" / "extended" / "answer.json").read_text())["rows"]
    made = {row["engine"]: row for row in rows if row["recipe"] == "ternary-w2a16-per_channel"}
    assert made["hf"]["perplexity"] == pytest.approx(made["uncached"]["perplexity"], rel=1e-5)
    assert made["hf"]["decode_tokens_per_second"] > 0
    records = sorted((store / "runs" / "extended").glob("*/record.json"))
    first, second = (json.loads(path.read_text())["stages"] for path in records)
    versions = {
        (one["stage"], one["subject"]): one["versions"].get("quant-runner-example")
        for one in second
    }
    assert versions["quantize", "recipe"] == versions["eval", "recipe"] == "0.1.0"
    assert all(
        "quant-runner-example" not in one["versions"] for one in first if one["stage"] == "bench"
    )
    (key,) = {one["key"] for one in (*first, *second) if one["stage"] == "quantize"}
    checkpoint = store / "objects" / "quantize" / key / "checkpoint"
    with safe_open(checkpoint / "model.safetensors", framework="pt") as tensors:
        row = tensors.get_tensor("model.layers.0.mlp.up_proj.weight")[0]
    assert len(row.abs().unique()) <= 2, "zero and one scale"
    with (store / "tracking" / "metrics.csv").open(newline="") as file:
        logged = [*csv.reader(file)]
    # Other tests of this file log into the same one.
    logged = [line for line in logged if line[0].startswith("extended/")]
    assert {run for run, _, _ in logged} == {f"extended/{path.parent.name}" for path in records}
    assert any(name.startswith("eval/perplexity/") for _, name, _ in logged)


def test_a_stage_of_a_plug_in_is_asked_for_run_kept_and_shown(
    called: Callable[..., subprocess.CompletedProcess[str]], store: Path
) -> None:
    claim = "{id: C1, sentence: fewer values, metric: histogram/kurtosis, left: 'method=ternary', "
    claim += "right: unquantized, effect: difference, at_most: 0}"
    words = (
        "stages=[quantize,histogram]", "method=ternary", "model=tiny", "histogram.bins=16",
        "tracker=csv_file", "sweep=histograms", f"claims=[{claim}]",
    )  # fmt: skip
    assert "kurtosis" in called(*words).stdout
    folder = store / "runs" / "histograms"
    answer = json.loads((folder / "answer.json").read_text())
    dense, ternary = (row["histogram/kurtosis"] for row in answer["rows"])
    assert dense > ternary > 1
    assert answer["claims"][0]["verdict"].startswith("holds")
    (path,) = folder.glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["config"]["histogram"]["bins"] == 16
    (one, other) = (s for s in record["stages"] if s["stage"] == "histogram")
    assert (one["subject"], other["subject"]) == ("baseline", "recipe")
    assert len(other["result"]["counts"]) == 16 and other["schema_version"] == 1
    with (store / "tracking" / "metrics.csv").open(newline="") as file:
        assert "histogram/kurtosis" in {name for _, name, _ in csv.reader(file)}
    assert "histogram unquantized: reused" in called(*words[:-2], "sweep=histogram_again").stderr


def test_a_device_of_a_plug_in_is_planned_for_and_all_are_listed(
    called: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    planned = called("stages=[plan]", "hardware=h800_sxm", "tracker=none", "model=llama31_8b")
    assert "h800_sxm" in planned.stdout
    words = called("--help").stdout
    for name in ("ternary", "uncached", "csv_file", "h800_sxm", "fables"):
        assert name in words


def test_the_working_directorys_plugins_are_used_and_recorded(
    command: Callable[..., Called], tmp_path: Path, store: Path
) -> None:
    """Two files, no packaging; the digest of the code is part of the result's key."""
    method = copied(tmp_path, "methods", "ternary")
    words = ("method=ternary", "model=tiny", "stages=[quantize]", "tracker=none")

    def made(sweep: str) -> dict[str, Any]:
        done = command(*words, f"sweep={sweep}")
        assert done.returncode == 0, done.stderr
        (path,) = (store / "runs" / sweep).glob("*/record.json")
        stage: dict[str, Any] = json.loads(path.read_text())["stages"][-1]
        return stage

    first, again = made("folder"), made("folder-again")
    assert first["versions"]["plugins/methods/ternary.py"].startswith("sha256:")
    assert again["reused"] and again["key"] == first["key"]
    method.write_text(method.read_text() + "# changed\n")
    assert made("folder-changed")["key"] != first["key"]


def test_what_an_added_engine_cannot_do_is_refused(
    command: Callable[..., Called], tmp_path: Path
) -> None:
    copied(tmp_path, "engines", "uncached")
    done = command("engine=uncached", "model=tiny", "method=none", "stages=[serving]")
    assert done.returncode == 2
    assert "serving needs an engine with a server, but engine=uncached has none" in done.stderr
    assert "engine=llama_cpp or engine=vllm" in done.stderr


def copied(directory: Path, kind: str, name: str) -> Path:
    """Copies an example below a working directory, without packaging; returns its Python file."""
    source, code = PACKAGE / "quant_runner_example", directory / "plugins" / kind / f"{name}.py"
    option = f"conf/{kind.removesuffix('s')}/{name}.yaml"
    for path, target in ((f"{name}.py", code), (option, directory / option)):
        target.parent.mkdir(parents=True)
        shutil.copy(source / path, target)
    return code
