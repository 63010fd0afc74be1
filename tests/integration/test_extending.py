"""docs/extending.md: its examples are put where it says and run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from runner.util.paths import conf_dir

pytestmark = pytest.mark.integration

CHECKOUT = conf_dir().parent
BLOCK = re.compile(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the documented files in it."""
    root = tmp_path_factory.mktemp("extended")
    for folder in ("runner", "conf", "sweeps"):
        shutil.copytree(CHECKOUT / folder, root / folder)
    shutil.copy(CHECKOUT / "pyproject.toml", root)
    examples = BLOCK.findall((CHECKOUT / "docs" / "extending.md").read_text())
    assert len(examples) == 4
    for path, content in examples:
        assert not (root / path).exists(), f"{path} ships; the example is none"
        (root / path).write_text(content)
    return root


def test_a_new_method_and_a_fourth_engine_run(
    extended: Path, tmp_path: Path, store: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "runner", "-m", "method=ternary", "engine=hf,uncached",
            "model=tiny", "eval=quick", "bench=quick", "bench.new_tokens=48", "tracker=none",
            "sweep=extended",
        ],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(extended)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((store / "runs" / "extended" / "answer.json").read_text())["rows"]
    made = {row["engine"]: row for row in rows if row["recipe"] == "ternary-w2a16-per_channel"}
    assert made["hf"]["perplexity"] == pytest.approx(made["uncached"]["perplexity"], rel=1e-5)
    assert made["hf"]["decode_tokens_per_second"] > 0
    records = (store / "runs" / "extended").glob("*/record.json")
    record = json.loads(next(iter(sorted(records))).read_text())
    (key,) = {s["key"] for s in record["stages"] if s["stage"] == "quantize"}
    checkpoint = store / "objects" / "quantize" / key / "checkpoint"
    with safe_open(checkpoint / "model.safetensors", framework="pt") as tensors:
        row = tensors.get_tensor("model.layers.0.mlp.up_proj.weight")[0]
    assert len(row.abs().unique()) <= 2, "zero and one scale"


def test_what_the_engine_can_do_is_asked_of_the_engine(
    extended: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Every stage on the added engine is carried out or refused, in words."""
    program = """
from runner.api import compose_config
from runner.config.schema.root import StageName
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import detect
from runner.validation.check import check
from runner.validation.verdict import Severity
for stage in (one for one in StageName if one.loads_model):
    named = ["tasks=packaged"] if stage is StageName.tasks else []
    named += ["group_size=g32"] if stage is StageName.quantize else []
    words = [f"stages=[{stage.value}]", "engine=uncached", "model=tiny", *named]
    config = compose_config(words)
    found = check(config, gather_facts(config, detect(), words))
    illegal = [str(verdict) for verdict in found if verdict.severity is Severity.illegal]
    print(stage.value, *illegal, sep="|")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(extended)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = dict(line.split("|", 1) for line in done.stdout.splitlines() if "|" in line)
    assert list(told) == ["serving"]
    assert told["serving"] == (
        "serving needs an engine with a server, but engine=uncached has none; try "
        "engine=llama_cpp or engine=vllm"
    )


def test_an_added_methods_options_are_listed(extended: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "--help"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(extended)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "ternary" in done.stdout
    assert "uncached" in done.stdout
