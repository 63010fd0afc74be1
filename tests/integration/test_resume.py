"""A sweep that failed is started again: what is done stays, the rest is done."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import INSTRUCTIONS, TINY, Called, base_model, records

pytestmark = pytest.mark.integration


def test_a_sweep_stops_and_is_completed_by_the_same_command(
    command: Callable[..., Called], store: Path, tmp_path: Path, prose: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Too short for thirty windows of a hundred and twenty-eight tokens. " * 30)
    sweep = ("-m", *TINY, "method=rtn", "bits=w8a16", "stages=[quantize,eval]",
             "text@eval.text=local", f"eval.text.path={quoted(text)}", "eval.windows=2,30,3",
             "launch.on_failure=stop", "tracker=none", "sweep=resumed")  # fmt: skip
    first = command(*sweep)
    assert first.returncode == 1, first.stderr
    done, failed, cancelled = records(store, "resumed")
    assert [r["status"] for r in (done, failed, cancelled)] == ["ok", "failed", "cancelled"]
    assert "launch.on_failure=stop, and 001-rtn-w8a16-g32 failed" in cancelled["reason"]
    assert f"rtn-w8a16-g32 cancelled: {cancelled['reason']}" in first.stdout

    text.write_text(prose.read_text())
    second = command(*sweep)
    assert second.returncode == 0, second.stderr
    again = records(store, "resumed")
    assert [record["status"] for record in again] == ["ok"] * 3
    # The text has changed behind its name: what was measured on it is stale, the rest is not.
    reused = {(s["stage"], s["subject"]): s["reused"] for s in again[0]["stages"]}
    assert reused["quantize", "recipe"]
    assert not reused["eval", "recipe"]
    assert all(s["reused"] for s in again[1]["stages"] if s["stage"] == "quantize")


def test_a_finished_run_is_kept_as_it_is(command: Callable[..., Called], store: Path) -> None:
    sweep = ("-m", *TINY, "method=none,rtn", "bits=bf16,w8a16", "stages=[eval,quantize]",
             "tracker=none", "sweep=twice")  # fmt: skip
    assert command(*sweep).returncode == 0
    before = records(store, "twice")
    told = command(*sweep, "dry_run=true")
    assert told.stdout.count("is done, would be kept") == 2
    # Other combinations before them take neither their numbers nor their records.
    more = ("-m", *TINY, "method=bnb_4bit,rtn,none", "bits=nf4,w8a16,bf16",
            "stages=[eval,quantize]", "tracker=none", "sweep=twice", "dry_run=true")  # fmt: skip
    for launcher in ("basic", "submitit_local"):
        told = command(*more, f"hydra/launcher={launcher}")
        runs = [line for line in told.stdout.splitlines() if line[:3].isdecimal()]
        assert len({run[:3] for run in runs}) == 9, told.stdout
        kept = {run.partition(" ")[0] for run in runs if "is done, would be kept" in run}
        assert kept == {record["run"] for record in before if record["status"] == "ok"}
    again = command(*sweep)
    assert again.returncode == 0
    after = records(store, "twice")
    done = [record for record in before if record["status"] == "ok"]
    assert len(done) == 2
    assert [record for record in after if record["status"] == "ok"] == done
    for record in done:
        assert f"ok since {record['started']}: kept as it is" in again.stderr
    assert command(*sweep, "force=[eval]").returncode == 0
    forced = [record for record in records(store, "twice") if record["status"] == "ok"]
    for record in forced:
        assert not any(s["reused"] for s in record["stages"][-1:] if s["stage"] == "eval")


def test_an_unknown_policy_is_a_wrong_request(command: Callable[..., Called]) -> None:
    asked = command(*TINY, "launch.on_failure=never")
    assert asked.returncode == 2
    assert "expected continue, stop or stop_after_N" in asked.stderr
    detached = command(*TINY, "launch.detach=true")
    assert detached.returncode == 2
    assert "needs -m and hydra/launcher=submitit_slurm" in detached.stderr


@pytest.mark.parametrize("computes", INSTRUCTIONS)
@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_a_dry_run_tells_everything_and_does_nothing(
    launcher: str, computes: str, command: Callable[..., Called], tmp_path: Path
) -> None:
    told = command(
        "-m", *TINY, "method=none,rtn", "bits=bf16,w4a16", "dry_run=true", "sweep=dry",
        f"hydra/launcher={launcher}", f"store.root={quoted(tmp_path / 'untouched')}",
        "hydra.sweeper.exclude=[{method: rtn, bits: bf16}]",
        QUANT_RUNNER_INSTRUCTION_SETS=INSTRUCTIONS[computes],
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "000-none-bf16  tiny on hf: would run"
    assert lines[1].startswith("  to do: model tiny, text wikipedia, tokens of wikipedia, ")
    assert "eval unquantized, " in lines[1] and "bench unquantized: roughly" in lines[1]
    assert lines[2].startswith("001-none-w4a16  tiny on hf: would be skipped: method=none does not")
    assert lines[3] == "002-rtn-w4a16-g32  tiny on hf: would run"
    # The first run makes the model and the reference, which the second finds.
    assert lines[4].startswith("  made by an earlier run: model tiny, text wikipedia, ")
    assert "eval unquantized" in lines[4]
    assert lines[5].startswith("  to do: quantize rtn-w4a16-g32, eval rtn-w4a16-g32, ")
    assert lines[6].startswith("2 would run: roughly ")
    assert len(lines) == 7
    assert not (tmp_path / "untouched").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("stages=[sensitivity]",),
        ("group_size=g32", "bits=auto", "method=rtn", "stages=[quantize,eval]"),
        (
            "group_size=g32",
            "method=rtn",
            "method.keep_most_sensitive=1",
            "stages=[quantize,eval,bench]",
        ),
        ("method=bnb_4bit", "group_size=g64", "stages=[quantize,eval,bench]"),
        ("group_size=g32", "method=gptq", "bench.interleave=always"),
        ("method=none", "stages=[tasks]", "tasks=packaged"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("computes", INSTRUCTIONS)
def test_a_dry_run_on_an_empty_store_looks_at_every_stage(
    computes: str, arguments: tuple[str, ...], command: Callable[..., Called], tmp_path: Path
) -> None:
    told = command(
        "model=tiny", *arguments, "dry_run=true", f"store.root={quoted(tmp_path / 'untouched')}",
        QUANT_RUNNER_INSTRUCTION_SETS=INSTRUCTIONS[computes],
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "not looked at further" not in told.stdout
    for stage in ("quantize", "eval", "bench", "sensitivity", "tasks"):
        asked = f"[{stage}" in arguments[-1] or f",{stage}" in arguments[-1]
        if asked:
            assert f"{stage} " in told.stdout, told.stdout
    assert not (tmp_path / "untouched").exists()


def test_a_dry_run_takes_no_note_of_weights_that_changed(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    made = command(*TINY, "method=none", "stages=[eval]", "tracker=none", "sweep=before_looking")
    assert made.returncode == 0, made.stderr
    shutil.copytree(base_model(store, records(store, "before_looking")[0]), tmp_path / "mine")
    mine = ("model=local", "model.path=mine", "group_size=g32", "method=rtn", "bits=w5a16",
            "stages=[quantize]", "tracker=none")  # fmt: skip
    assert command(*mine, "sweep=noted").returncode == 0
    weights = tmp_path / "mine" / "model.safetensors"
    changed = {name: tensor * 0.9 for name, tensor in load_file(weights).items()}
    save_file(changed, weights, {"format": "pt"})
    assert command(*mine, "dry_run=true").returncode == 0
    after = command(*mine, "sweep=after_looking")
    assert "stale: base weights of mine changed since" in after.stderr
