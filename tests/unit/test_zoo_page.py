"""The table of the zoo: every architecture has its row, and a cell says what its record says."""

import re
from pathlib import Path

import pytest

from docs.zoo import NOT_RUN, PATH, page
from runner.store.records import Status, write_record
from runner.util.paths import conf_dir
from tests.unit.records import evaluation, record, stage

pytestmark = pytest.mark.unit

MODELS = sorted(path.stem for path in (conf_dir() / "model" / "zoo").glob("*.yaml"))


def test_every_architecture_has_its_row_and_no_cell_failed() -> None:
    text = PATH.read_text("utf-8")
    table = text.partition("## hf")[2].partition("## ")[0]
    assert [line.split()[1] for line in table.splitlines() if line.startswith("| ")][2:] == MODELS
    assert "**failed**" not in re.sub(r"`failed`", "", text.partition("## Unquantized")[2])
    numbers = {int(n) for n in re.findall(r"\[(\d+)\]\(#reasons\)", text)}
    listed = {int(n) for n in re.findall(r"^(\d+)\. ", text, re.M)}
    assert numbers == listed


def test_a_cell_says_what_its_record_says(tmp_path: Path) -> None:
    found = evaluation([3.0, 3.1], 20.5, 20.0)
    found["divergence"] = {"kl_divergence": {"mean": {"estimate": 0.0123}}}
    made = stage("quantize", "recipe", {"coverage": {"quantized_share": 0.57}})
    models = [f"zoo_{name}" for name in MODELS]
    runs = [
        record(0, "rtn-w4a16-g64", [made, stage("eval", "recipe", found)], model=models[0]),
        record(
            1, "rtn-w4a16-g64", [], model=models[1], status=Status.skipped,
            reason="no kernel for /home/me/it; try engine=hf",
        ),
        record(2, "none-bf16", [stage("eval", "baseline", found)], model=models[0]),
        record(3, "rtn-w4a16-g64", [], model=models[2], status=Status.interrupted),
    ]  # fmt: skip
    for run in runs:
        write_record(tmp_path, run)
    lines = page([tmp_path / "demo"]).splitlines()
    assert f"| {MODELS[0]} | 20.5 | {NOT_RUN} | {NOT_RUN} |" in lines
    assert f"| {MODELS[0]} | 0.012 · 57% |" in lines
    assert f"| {MODELS[1]} | **skipped** [1](#reasons) |" in lines
    assert f"| {MODELS[2]} | {NOT_RUN} |" in lines
    assert "1. no kernel for it; try engine=hf" in lines
