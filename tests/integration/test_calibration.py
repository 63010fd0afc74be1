"""Calibration as a run carries it out: same windows for all, overlap told, stale told, claims."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import Called, base_model, records

pytestmark = pytest.mark.integration

SMALL = ("model=tiny", "tracker=none", "eval=quick", "text@eval.text=local")
SIZE = ("calibration.samples=8", "calibration.sequence_length=64")

MINE = """
defaults: [config, _self_]
stages: [quantize, eval]
claims:
  - {id: C19, sentence: small groups help, left: group_size=g32, right: group_size=per_channel,
     at_most: 0}
  - {id: C10, sentence: groups cost bits, metric: bits_per_weight, left: group_size=g32,
     right: group_size=per_channel, at_least: 0.2}
  - {id: C0, sentence: rounding ruins it, left: method=rtn, right: unquantized, at_least: 1000000}
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
      rounding: {method: rtn, bits: w3a16, group_size: "g32,per_channel"}
"""


def stage(record: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        entry["result"]
        for entry in record["stages"]
        if entry["stage"] == name and entry["subject"] == "recipe"
    )
    return found


def test_every_method_sees_the_same_windows_of_a_mix(
    command: Callable[..., Called], store: Path, prose: Path, tmp_path: Path
) -> None:
    # The tiny model takes a byte for a token: these are two windows of what is evaluated by one
    # of the protocols.
    (tmp_path / "domain.txt").write_text(prose.read_text()[:135])
    domain = "{name: local, path: domain.txt}"
    generic = f"{{name: local, path: {quoted(prose)}}}"
    sources = f"[{{text: {domain}, weight: 1}}, {{text: {generic}, weight: 3}}]"
    done = command(
        "-m", "method=gptq,awq", *SMALL, *SIZE, "group_size=g32", "stages=[quantize,eval]",
        f"eval.text.path={quoted(prose)}", "calibration=mixed", f"calibration.sources={sources}",
        "eval.protocols=[spread,gptq]", "sweep=mix",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    gptq, awq = records(store, "mix")
    made = [stage(record, "quantize") for record in (gptq, awq)]
    assert made[0]["calibration_sha256"] == made[1]["calibration_sha256"]
    assert [part["windows"] for part in made[0]["calibration_parts"]] == [2, 6]
    assert made[0]["calibration_tokens"] == 8 * 64
    assert gptq["label"] == "gptq-w4a16-g32,calibration=domain.txt*1+prose.txt*3"
    share = stage(gptq, "overlap")["overlaps"][0]["share"]
    assert 0.01 < share < 0.5
    assert any("occur in the calibration windows" in warning for warning in gptq["warnings"])
    assert f"{share:.1%} of the 8-word sequences evaluated in prose.txt" in done.stdout


def test_too_few_tokens_end_a_run_before_a_model_is_quantized(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    # More bytes than tokens are asked for, so that only the tokenizer can tell.
    (tmp_path / "short.txt").write_text("some words of a text " * 30)
    done = command(
        "method=gptq", *SMALL, *SIZE, "group_size=g32", "stages=[quantize]",
        "eval.text.path=short.txt", "calibration=local", "calibration.text.path=short.txt",
        "calibration.skip_tokens=300", "sweep=too_few",
    )  # fmt: skip
    assert done.returncode == 1
    (record,) = records(store, "too_few")
    assert record["status"] == "failed"
    said = "beyond the 300 that are skipped, calibration asks for 512 (8 windows of 64): set"
    assert said in record["reason"]
    assert not [entry for entry in record["stages"] if entry["stage"] == "quantize"]


def test_a_checkpoint_of_weights_that_changed_is_stale(
    command: Callable[..., Called], store: Path, prose: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    arguments = (
        "method=rtn", "group_size=g32", "tracker=none", "stages=[quantize]", "model=local",
        "model.path=mine", "text@eval.text=local", f"eval.text.path={quoted(prose)}",
    )  # fmt: skip
    base = command(
        "method=none", *SMALL, f"eval.text.path={quoted(prose)}", "stages=[eval]", "sweep=base"
    )
    assert base.returncode == 0, base.stderr
    shutil.copytree(base_model(store, records(store, "base")[0]), tmp_path / "mine")
    assert command(*arguments, "sweep=before").returncode == 0
    again = command(*arguments, "sweep=stale_again")
    assert "stale" not in again.stderr
    weights = tmp_path / "mine" / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor * 0.9 for name, tensor in tensors.items()}, weights, {"format": "pt"})
    done = command(*arguments, "sweep=after")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stale: base weights of mine changed since" in done.stderr
    before, reused, after = (records(store, name)[0] for name in ("before", "stale_again", "after"))
    assert reused["stages"][0]["key"] == before["stages"][0]["key"] != after["stages"][0]["key"]
    assert "is not reused" in after["warnings"][0]


def test_a_sweeps_claims_are_decided_and_again_from_the_store(
    command: Callable[..., Called], store: Path, prose: Path, tmp_path: Path
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(MINE)
    done = command("-cn", "mine", *SMALL, f"eval.text.path={quoted(prose)}", "sweep=claims")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("C", "     rtn-"))]
    assert any(line.startswith("C19  ") and "small groups help" in line for line in lines)
    assert any("g32 against rtn-w3a16-per_channel: perplexity " in line for line in lines)
    assert "C10  holds here: groups cost bits" in lines
    assert "C0  does not hold here (holds in 0 of 2): rounding ruins it" in lines
    again = command("stages=[report]", "sweep=claims")
    assert [line for line in again.stdout.splitlines() if line in lines] == lines
    answer = json.loads((store / "runs" / "claims" / "answer.json").read_text())
    effect = answer["claims"][0]["comparisons"][0]["effect"]
    assert effect["low"] < effect["estimate"] < effect["high"]
