"""Sweeps: what cannot be is skipped, what breaks is failed, and the rest goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from runner.config.compose import quoted
from runner.store.files import write_checked_json
from tests.integration.conftest import Called, base_model, elsewhere, records

pytestmark = pytest.mark.integration

QUICK = ("model=tiny", "tracker=none", "stages=[quantize,eval]", "group_size=g32")

MINE = """
defaults: [config, _self_]
model: {name: tiny-of-mine, seed: 3}
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
      reference: {method: none}
      rounded: {method: rtn, bits: "w8a16,w4a16"}
      twice: {method: "rtn,bnb_4bit", bits: w4a16}
"""


@pytest.fixture
def text(prose: Path) -> tuple[str, ...]:
    """Arguments that evaluate on the local text."""
    return (
        "text@eval.text=local",
        f"eval.text.path={quoted(prose)}",
        "eval.context_length=64",
        "eval.windows=4",
    )


def test_a_recipe_after_others_in_a_sweep_is_what_a_call_of_its_own_makes(
    command: Callable[..., Called], store: Path, text: tuple[str, ...]
) -> None:
    """To the byte, whatever its recipes share."""
    asked = (*QUICK[:2], *text, "stages=[quantize]", "method=gptq", "group_size=g32",
             "calibration.samples=4", "calibration.sequence_length=64")  # fmt: skip

    def made(sweep: str) -> dict[str, bytes]:
        keys = [
            stage["key"]
            for record in records(store, sweep)
            for stage in record["stages"]
            if stage["stage"] == "quantize"
        ]
        folders = [store / "objects" / "quantize" / key / "checkpoint" for key in keys]
        return {
            f"{folder.parent.name}/{file.name}": file.read_bytes()
            for folder in folders
            for file in folder.iterdir()
        }

    done = command("-m", *asked, "bits=w4a16,w8a16", "sweep=together")
    assert done.returncode == 0, done.stderr
    together = made("together")
    done = command(*asked, "bits=w8a16", "force=[quantize]", "sweep=made_apart")
    assert done.returncode == 0, done.stderr
    apart = made("made_apart")
    assert apart.items() < together.items()
    assert sum(name.endswith(".safetensors") for name in apart) == 1


def test_illegal_combinations_are_skipped_with_their_reason(
    command: Callable[..., Called], store: Path, text: tuple[str, ...]
) -> None:
    done = command("-m", *QUICK, *text, "method=none,rtn", "bits=w8a16,w4a16", "sweep=product")
    assert done.returncode == 0, done.stderr
    found = {record["run"]: record for record in records(store, "product")}
    assert {name: record["status"] for name, record in found.items()} == {
        "000-none-w8a16": "skipped",
        "001-none-w4a16": "skipped",
        "002-rtn-w8a16-g32": "ok",
        "003-rtn-w4a16-g32": "ok",
    }
    skipped = found["000-none-w8a16"]
    assert "try bits=bf16" in skipped["reason"]
    assert skipped["stages"] == []
    assert f"none-w8a16 skipped: {skipped['reason']}" in done.stdout
    rows = json.loads((store / "runs" / "product" / "answer.json").read_text())["rows"]
    assert [(row["recipe"], row["status"]) for row in rows if row["status"] == "ok"] == [
        ("unquantized", "ok"),
        ("rtn-w8a16-g32", "ok"),
        ("rtn-w4a16-g32", "ok"),
    ]
    # The baseline is evaluated once for the whole sweep.
    baselines = [
        entry["reused"]
        for record in found.values()
        for entry in record["stages"]
        if (entry["stage"], entry["subject"]) == ("eval", "baseline")
    ]
    assert len(baselines) == 2
    assert baselines[1]

    # The same files, measured as anybody's: the recipe's numbers, under a number of their own.
    (key,) = (s["key"] for s in found["003-rtn-w4a16-g32"]["stages"] if s["stage"] == "quantize")
    checkpoint = store / "objects" / "quantize" / key / "checkpoint"
    audit = command("audit", "tiny", str(checkpoint), "audit.name=theirs", *text, "tracker=none",
                    "stages=[audit,eval]", "sweep=product")  # fmt: skip
    assert audit.returncode == 0, audit.stderr
    assert "int4, groups of 32: 14 matrices of attention and mlp" in audit.stdout
    answer = json.loads((store / "runs" / "product" / "answer.json").read_text())
    own, theirs = (
        next(row for row in answer["rows"] if row["recipe"] == name)
        for name in ("rtn-w4a16-g32", "theirs")
    )
    assert theirs["run"] == "004-theirs"
    for figure in ("bits_per_weight", "checkpoint_bytes", "perplexity", "kl_divergence_high"):
        assert theirs[figure] == own[figure], figure
    assert "of the same size and KL divergence as rtn-w4a16-g32" in answer["audits"]["theirs"]
    # The same files lose nothing; 4 bits lose more than 8.
    for sides, code in ((("product/3", "product/4"), 0), (("product/2", "product/3"), 3)):
        compared = command("compare", *sides, "compare.max_kl=0.001")
        assert compared.returncode == code, compared.stdout
        assert "the base is the same: perplexity" in compared.stdout


def test_a_checkpoint_of_others_is_audited_in_blocks_of_fp8(
    command: Callable[..., Called], store: Path, text: tuple[str, ...], tmp_path: Path
) -> None:
    """No method of ours writes them; DeepSeek and Qwen publish such files."""
    import torch
    from safetensors.torch import load_file, save_file

    seen = command("model=tiny", "method=none", "tracker=none", "stages=[eval]", *text,
                   "sweep=to_publish")  # fmt: skip
    assert seen.returncode == 0, seen.stderr
    (record,) = records(store, "to_publish")
    source = base_model(store, record)
    made = tmp_path / "published"
    shutil.copytree(source, made)
    tensors = {}
    for name, weight in load_file(source / "model.safetensors").items():
        tensors[name] = weight
        if name.endswith("_proj.weight"):
            rows, columns = (size // 32 for size in weight.shape)
            blocks = weight.float().reshape(rows, 32, columns, 32)
            scale = blocks.abs().amax(dim=(1, 3)) / 448
            rounded = (blocks / scale[:, None, :, None]).reshape(weight.shape)
            tensors[name] = rounded.to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = scale
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((made / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    (made / "config.json").write_text(json.dumps(config))
    audit = command("audit", "tiny", "published", *text, "tracker=none", "stages=[audit,eval]",
                    "sweep=published")  # fmt: skip
    assert audit.returncode == 0, audit.stderr
    assert "float8, blocks of 32 x 32: 14 matrices of attention and mlp" in audit.stdout
    (row,) = (
        row
        for row in json.loads((store / "runs" / "published" / "answer.json").read_text())["rows"]
        if row["recipe"] == "published"
    )
    assert 0 < row["kl_divergence"] < 0.1
    assert row["perplexity_ratio"] == pytest.approx(1, abs=0.05)


def test_a_failing_run_fails_alone(
    command: Callable[..., Called], store: Path, text: tuple[str, ...]
) -> None:
    done = command(
        "-m", *QUICK, *text, "method=rtn", "bits=w8a16,w4a16", "eval.windows=100000,5,3",
        # Three windows from the start of a text are the first of five.
        "eval.protocols=[gptq]", "sweep=partly",
    )  # fmt: skip
    assert done.returncode == 1
    found = records(store, "partly")
    # What needs one checkpoint comes one after the other.
    assert [record["status"] for record in found] == 2 * ["failed", "ok", "ok"]
    for record in found[::3]:
        assert "but 100000 are asked for: reduce the number of windows" in record["reason"]
        # Told before anything is quantized.
        assert record["stages"] == []
        # The reason says all: no lines of ours about where in the code it was found.
        assert not any("Traceback" in line for line in record["log_tail"])
        assert record["reason"] in done.stderr
    assert "Traceback" not in done.stdout
    assert "rtn-w8a16-g32, rtn-w4a16-g32 failed: the text has" in done.stdout
    # The unquantized model is evaluated between the first checkpoint's, then it is in the store.
    evals = [record["stages"][-1]["result"] for record in found if record["stages"]]
    assert [one["resources"]["model_was_loaded"] for one in evals] == [False, False, False, True]
    five, three = (one["perplexity"]["window_losses"] for one in evals[2:])
    assert three == five[:3]
    # Killed processes of other tests may have left something; a failed stage must not.
    keys = {entry["key"] for record in found for entry in record["stages"]}
    assert keys.isdisjoint(path.name.split("-")[1] for path in (store / "staging").iterdir())


def test_a_sweep_of_ones_own_is_the_union_of_its_grids(
    command: Callable[..., Called], store: Path, text: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(MINE)
    done = command("-cn", "mine", *QUICK, *text, "sweep=mine")
    assert done.returncode == 0, done.stderr
    # rtn at 4 bits stands in two grids and runs once.
    assert [(record["run"], record["status"]) for record in records(store, "mine")] == [
        ("000-none-bf16", "ok"),
        ("001-rtn-w8a16-g32", "ok"),
        ("002-rtn-w4a16-g32", "ok"),
        ("003-bnb_4bit-w4a16-g32", "skipped"),
    ]
    # Fields the sweep's file sets hold for every grid.
    assert {(r["model"], r["config"]["model"]["seed"]) for r in records(store, "mine")} == {
        ("tiny-of-mine", 3)
    }
    (copy,) = tmp_path.glob("multirun/*/*/answer.csv")
    assert copy.read_text() == (store / "runs" / "mine" / "answer.csv").read_text()
    # The command line wins over every grid.
    narrowed = command("-cn", "mine", *QUICK, *text, "bits=w4a16", "sweep=narrowed")
    assert narrowed.returncode == 0, narrowed.stderr
    labels = [record["label"] for record in records(store, "narrowed")]
    assert labels == ["none-w4a16", "rtn-w4a16-g32", "bnb_4bit-w4a16-g32"]
    # Its runs are what a gate is asked about.
    limits = {"2": ("gate.max_kl=1e-6", 3), "1": ("gate.max_kl=10", 0), "": ("gate.alpha=0.01", 2)}
    for run, (limit, code) in limits.items():
        judged = command("gate", f"mine/{run}", limit, "hydra.run.dir=gate")
        assert judged.returncode == code, judged.stdout + judged.stderr
    (case,) = ElementTree.parse(tmp_path / "gate" / "gate.xml").getroot().iter("testcase")
    assert (case.get("classname"), case.get("name")) == ("mine/001-rtn-w8a16-g32", "max_kl")
    against = ("gate.against=mine/1", "gate.max_perplexity_ratio=1.0001", "gate.alpha=0.001")
    assert command("gate", "mine/2", *against).returncode == 4


@pytest.mark.parametrize("launcher", ["submitit_local", "joblib", "basic"])
def test_a_sweep_runs_in_a_folder_with_blanks_and_accents(
    launcher: str, store: Path, tmp_path: Path, environment: dict[str, str], prose: Path
) -> None:
    place = tmp_path / "a b é, (it's) [x]"
    place.mkdir()
    (place / "my text.txt").write_text(prose.read_text())
    done = elsewhere(
        "-m", "model=tiny", "method=none", "bits=bf16,fp16", "eval=quick", "tracker=none",
        "stages=[quantize,eval]", "text@eval.text=local", "eval.text.path='my text.txt'",
        f"hydra/launcher={launcher}", f"sweep=accents_{launcher}", cwd=place, variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [r["status"] for r in records(store, f"accents_{launcher}")] == ["ok", "ok"]
    assert list(place.glob("multirun/*/*"))


def test_a_sweep_under_old_names_is_the_same_sweep_under_the_new_ones(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    (tmp_path / "sweeps").mkdir()
    grid = "{mode: MULTIRUN, sweeper: {grids: {mine: {sensitivity.grain: 'linear,block'}}}}"
    own = f"defaults: [config, _self_]\nplan: {{least_recovery_percent: 95}}\nhydra: {grid}\n"
    (tmp_path / "sweeps" / "older.yaml").write_text(own)
    words = ("-cn", "older", *QUICK, "stages=[quantize]", "method=rtn", "sweep=older")
    done = command(*words, "plan.largest_batch=8")
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "was renamed to" in line]
    assert len(warned) == 3, done.stderr
    places = sorted((store / "runs" / "older").glob("*/record.json"))
    asked = [json.loads(one.read_text())["config"]["sensitivity"] for one in places]
    assert [one["granularity"] for one in asked] == ["linear", "block"]
    # As an earlier version left them: under the old names.
    for place in places:
        record = json.loads(place.read_text())
        section = record["config"]["sensitivity"]
        section["grain"] = section.pop("granularity")
        write_checked_json(place, {k: v for k, v in record.items() if k != "sha256"})
    states = [one.stat().st_mtime_ns for one in places]
    again = command(*words, "plan.max_batch_size=8")
    assert again.returncode == 0, again.stderr
    assert [one.stat().st_mtime_ns for one in places] == states, "nothing was done again"
