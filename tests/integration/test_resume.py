"""A sweep that failed is started again: what is done stays, the rest is done."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import TINY, Called, records

pytestmark = pytest.mark.integration


def test_a_sweep_stops_and_is_completed_by_the_same_command(
    command: Callable[..., Called], store: Path, tmp_path: Path, prose: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Too short for thirty windows of a hundred and twenty-eight tokens. " * 30)
    sweep = ("-m", *TINY, "method=rtn", "bits=w8a16", "stages=[quantize,eval]",
             "text@eval.text=local", f"eval.text.path={text}", "eval.windows=2,30,3",
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


def test_what_is_done_is_kept_as_it_is(command: Callable[..., Called], store: Path) -> None:
    sweep = ("-m", *TINY, "method=none,rtn", "bits=bf16,w8a16", "stages=[eval,quantize]",
             "tracker=none", "sweep=twice")  # fmt: skip
    assert command(*sweep).returncode == 0
    before = records(store, "twice")
    told = command(*sweep, "dry_run=true")
    assert told.stdout.count("is done, would be kept") == 2
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


@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_a_dry_run_tells_and_does_nothing(
    launcher: str, command: Callable[..., Called], tmp_path: Path
) -> None:
    told = command(
        "-m", *TINY, "method=none,rtn", "bits=bf16,w4a16", "dry_run=true", "sweep=dry",
        f"hydra/launcher={launcher}", f"store.root={tmp_path / 'untouched'}",
        "hydra.sweeper.exclude=[{method: rtn, bits: bf16}]",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "000-none-bf16  tiny on hf: would run"
    assert any(
        line.startswith("001-none-w4a16  tiny on hf: would be skipped: method=none keeps")
        for line in lines
    )
    rounded = lines.index("002-rtn-w4a16-g32  tiny on hf: would run")
    # The first run makes the model and the reference, which the second finds.
    assert "  made by an earlier run: model tiny, text wikipedia" in lines[rounded + 1]
    assert lines[rounded + 2].startswith("  to do: quantize rtn-w4a16-g32, eval unquantized")
    assert lines[-1].startswith("2 would run: roughly ")
    assert not any("rtn-bf16" in line for line in lines)
    assert not (tmp_path / "untouched").exists()
