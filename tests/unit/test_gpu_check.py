"""``make gpu-check``: its lines, time and report, and how far a stub of the driver takes it."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_check import __main__ as command
from gpu_check import driver, report
from gpu_check import setting as setting_module
from gpu_check.checks import detection, devices, figures, processes
from gpu_check.outcome import (
    RESERVE_SECONDS,
    Budget,
    Check,
    Failed,
    NotPossible,
    RunFailed,
    State,
    carry_out,
)
from gpu_check.recipes import HF
from gpu_check.setting import Setting
from runner.planning.hardware.detect import Machine
from tests.stub_driver import A100, H100, cards, for_processes
from tests.unit.test_predictions import bench, record

pytestmark = pytest.mark.unit


@pytest.fixture
def setting(gpu: Machine, tmp_path: Path) -> Setting:
    """An A100 on which nothing can run: there is no environment that has CUDA."""
    return Setting(
        machine=gpu,
        device="cuda",
        overrides=(),
        store=tmp_path / "store",
        environments=tmp_path / "environments",
        scratch=tmp_path,
        budget=Budget(600),
    )


def failing(error: Exception) -> Check:
    def run() -> str:
        raise error

    return Check(type(error).__name__, run)


def test_each_check_says_how_it_ended_and_none_ends_the_others() -> None:
    checks = [
        failing(Failed("too fast")),
        failing(NotPossible("no second GPU")),
        failing(RunFailed("killed", ["its last line"])),
        failing(ZeroDivisionError("a fault of its own")),
        Check("found", lambda: "one GPU"),
    ]
    lines: list[str] = []
    outcomes = carry_out(checks, Budget(60), lines.append)
    assert [one.state for one in outcomes] == [
        State.failed, State.not_possible, State.failed, State.failed, State.ok
    ]  # fmt: skip
    assert lines[1].startswith("not possible here ") and lines[1].endswith(": no second GPU")
    assert outcomes[2].log == ["its last line"]
    assert outcomes[3].detail == "ZeroDivisionError: a fault of its own"
    assert "raise error" in "".join(outcomes[3].log)
    assert lines[-1].startswith("ok ") and lines[-1].endswith("s  found: one GPU")


def test_a_check_without_time_left_is_not_begun_and_named() -> None:
    now = 0.0

    def takes(seconds: float) -> Check:
        def run() -> str:
            nonlocal now
            now += seconds
            return "done"

        return Check(f"{seconds:.0f}", run, least_seconds=seconds)

    budget = Budget(100 + RESERVE_SECONDS, clock=lambda: now)
    outcomes = carry_out([takes(60), takes(50), takes(40), takes(1)], budget, lambda _: None)
    assert [(one.name, one.state.value, one.seconds) for one in outcomes] == [
        ("60", "ok", 60), ("50", "left out", 0), ("40", "ok", 40), ("1", "left out", 0)
    ]  # fmt: skip
    assert outcomes[1].detail == "takes 50 s or more, 40 s are left"


def test_without_a_gpu_it_says_so_at_once(
    cpu: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "detect", lambda: cpu)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert command.main([]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert "no GPU" in error and "CUDA_VISIBLE_DEVICES= leaves none" in error


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def ended(*numbers: int) -> None:
    """Waits until none of these processes lives."""
    deadline = time.monotonic() + 10
    while any(map(processes._runs, numbers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_that_hangs_is_killed_with_all_that_it_started(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    hanging = script(
        tmp_path / "python", f"trap '' INT; echo loading\nsleep 60 & echo $! > {child}\nwait"
    )
    monkeypatch.setattr(setting_module.sys, "executable", str(hanging))
    monkeypatch.setattr(setting_module, "_PATIENCE", 0.05)
    with pytest.raises(RunFailed, match="killed after 0 s") as killed:
        setting.run("hangs", "method=none", limit=0.3)
    assert killed.value.log == ["loading"]
    ended(int(child.read_text()))
    assert setting.commands["hangs"] == "runner tracker=none text@eval.text=python_code method=none"


def test_a_run_that_fails_tells_what_it_printed_last(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = script(tmp_path / "python", "echo first; echo 'runner: no such model'; exit 2")
    monkeypatch.setattr(setting_module.sys, "executable", str(broken))
    with pytest.raises(RunFailed, match="exit code 2: runner: no such model"):
        setting.run("fails", limit=10.0)


def test_what_a_process_started_is_found_however_deep(tmp_path: Path) -> None:
    with subprocess.Popen(
        ["sh", "-c", "sh -c 'sleep 60 & wait' & wait"], start_new_session=True
    ) as top:
        deadline = time.monotonic() + 10
        while len(processes.descendants(top.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        found = processes.descendants(top.pid)
        os.killpg(top.pid, 9)
    assert len(found) == 2
    ended(*found)


SEEN = {
    "name": "NVIDIA A100-SXM4-80GB",
    "memory_bytes": 84_000_000_000,
    "compute_capability": "8.0",
    "uuid": "0",
    "cache_bytes": 40 * 2**20,
}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, None),
        ({"name": "NVIDIA L4"}, "name 'NVIDIA L4', the driver says 'NVIDIA A100-SXM4-80GB'"),
        ({"uuid": "1"}, "UUID 1, the driver says GPU-0"),
        ({"compute_capability": "8.9"}, "compute_capability '8.9'"),
        ({"memory_bytes": 40_000_000_000}, "memory 40000000000"),
    ],
)
def test_torchs_gpus_are_held_against_the_drivers(
    changed: dict[str, Any], says: str | None, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"torch": "2.13", "cuda": "13.0", "available": True, "gpus": [SEEN | changed]}
    monkeypatch.setattr(detection, "worker", lambda _: SimpleNamespace(python="python"))
    monkeypatch.setattr(setting, "probe", lambda *_, **__: json.dumps(told))
    if says is None:
        assert "agree" in detection.torch_agrees(setting)
        return
    with pytest.raises(Failed, match=says):
        detection.torch_agrees(setting)


def test_a_torch_without_cuda_or_with_other_gpus_fails(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {"torch": "2.13+cpu", "cuda": None, "available": False, "gpus": []}
    monkeypatch.setattr(detection, "worker", lambda _: SimpleNamespace(python="python"))
    monkeypatch.setattr(setting, "probe", lambda *_, **__: json.dumps(told))
    with pytest.raises(Failed, match=r"torch 2.13\+cpu \(CUDA none\) cannot use a GPU"):
        detection.torch_agrees(setting)
    told |= {"available": True, "gpus": [SEEN, SEEN]}
    with pytest.raises(Failed, match="sees 2 GPUs, the runner 1"):
        detection.torch_agrees(setting)


def measured(setting: Setting, mbu: float, **peaks: float) -> None:
    """Leaves the record of a bench at that utilization."""
    limits = {"source": "measured", "bandwidth_bytes_per_second": 1.5e12, "peak_teraflops": peaks}
    result = bench([0.01, 0.02])
    result["limits"] = [limits]
    for batch in result["batches"]:
        batch["utilization"] = [
            {
                "limits": "measured",
                "memory_bandwidth": mbu,
                "prefill_flops": 0.4,
                "decode_flops": None,
            }
        ]
    setting.records[HF[0].sweep] = [record("smollm2_135m", result, ("method=none",))]


def test_more_than_the_memory_gives_is_no_measurement(setting: Setting) -> None:
    with pytest.raises(NotPossible, match="no bench"):
        figures.utilization(setting)
    measured(setting, 0.6)
    assert figures.utilization(setting) == "MBU 0.60 to 0.60, MFU up to 0.40"
    measured(setting, 1.2)
    with pytest.raises(Failed, match=r"MBU 1\.20 of .*batch 1; MBU 1\.20 of .*batch 4"):
        figures.utilization(setting)


def test_a_generation_without_its_formats_rates_fails(setting: Setting) -> None:
    measured(setting, 0.6, fp32=19.0, fp16=300.0, bf16=290.0)
    assert "1500 GB/s; teraflops: fp32 19, fp16 300, bf16 290" in figures.limits(setting)
    hopper = vars(setting.machine.gpus[0]) | {"compute_capability": "9.0"}
    card = type(setting.machine.gpus[0])(**hopper)
    setting.machine = Machine(**{**vars(setting.machine), "gpus": (card,)})
    with pytest.raises(Failed, match=r"no rate of fp8$"):
        figures.limits(setting)


def test_one_gpu_is_no_place_for_checks_of_two(setting: Setting) -> None:
    for check in (devices.second, devices.both):
        with pytest.raises(NotPossible, match="1 visible"):
            check(setting)


def test_memory_that_stays_in_use_is_told(gpu: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([[3 * 10**9], [2 * 10**9], [10**9]])
    monkeypatch.setattr(driver, "used_bytes", lambda _: next(used))
    monkeypatch.setattr(driver.time, "sleep", lambda _: None)
    assert driver.wait_until_free(gpu.gpus, [10**9 - 10], 50, limit=60) >= 0
    monkeypatch.setattr(driver, "used_bytes", lambda _: [3 * 10**9])
    with pytest.raises(TimeoutError, match="2000 MB are still in use"):
        driver.wait_until_free(gpu.gpus, [10**9], 50, limit=-1)


def test_the_report_leaves_empty_what_is_not_known(setting: Setting, tmp_path: Path) -> None:
    measured(setting, 0.6)
    outcomes = carry_out([Check("one", lambda: "a|b")], Budget(60), lambda _: None)
    path = report.write(report.content(setting, outcomes, 12.0), tmp_path / "docs")
    assert path.name == "nvidia-a100-sxm4-80gb.md"
    page = path.read_text("utf-8")
    assert page.startswith("# NVIDIA A100-SXM4-80GB\n") and "a\\|b" in page
    line = next(line for line in page.splitlines() if line.startswith("| hf bf16"))
    cells = [cell.strip() for cell in line.split("|")]
    # No recipe, no perplexity, no prediction.
    assert cells[2:4] == ["", ""] and cells[4] == "1" and cells[7:9] == ["10", "0.4"]
    told = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert told["summary"]["ok"] == 1 and told["gpus"][0]["uuid"] == "GPU-0"


def test_with_a_stub_of_the_driver_every_recipe_is_judged_and_none_computes(
    tmp_path: Path,
) -> None:
    """Of the checks that a rehearsal in CI can make: detection, legality, command lines."""
    # An interpreter without a torch that would be refused for lack of CUDA.
    python = script(tmp_path / "python", f'exec {sys.executable} -I -S "$@"')
    folder = tmp_path / "report"
    only = [f"--only={name}" for name in ("GPUs", "kill", "hf fp8", "vllm bf16", "llama_cpp")]
    own = f"environment.default.python={python}"
    stubbed = for_processes(cards(H100, A100)) | {"STUB_DRIVER": "580.95.05", "STUB_CUDA": "13000"}
    done = subprocess.run(
        [sys.executable, "-m", "gpu_check", "--dry-run", f"--out={folder}", own, *only],
        cwd=Path(report.__file__).parents[1],
        env={**os.environ, **stubbed, "CUDA_VISIBLE_DEVICES": "0",
             "QUANT_RUNNER_ENVIRONMENTS": str(tmp_path / "none")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads((folder / "nvidia-h100-80gb-hbm3.json").read_text("utf-8"))
    assert [gpu["name"] for gpu in told["gpus"]] == ["NVIDIA H100 80GB HBM3"], "as was asked for"
    assert told["driver"] == {"driver": "580.95.05", "cuda_driver": "13.0"}
    assert len(told["checks"]) == 5, "as many as were asked for"
    states = {one["name"]: (one["state"], one["detail"]) for one in told["checks"]}
    assert states["GPUs"][0] == "ok" and "85.5 GB, capability 9.0" in states["GPUs"][1]
    assert states["hf fp8"] == ("ok", "legal")
    assert states["vllm bf16"][0] == "not possible here" and "vllm_cuda" in states["vllm bf16"][1]
    assert states["llama_cpp Q4_K_M"][0] == "not possible here"
    assert states["kill"] == ("left out", "a dry run computes nothing")
    command = told["commands"]["vllm_bf16"]
    assert command.startswith("runner ") and command.endswith(own) and " engine=vllm " in command
    server = " ".join(told["servers"]["vllm bf16"])
    assert "CUDA_VISIBLE_DEVICES=GPU-0aaa " in server and "--gpu-memory-utilization" in server
    assert told["recipes"] == [] and "2 ok, 2 not possible here" in done.stdout


def test_the_most_memory_in_use_is_kept_while_something_runs(
    gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {"first": 5, "second": 7}
    monkeypatch.setattr(driver, "_handles", lambda _: [(None, "first"), (None, "second")])
    monkeypatch.setattr(driver, "_used", lambda _, handle: used[handle])
    monkeypatch.setattr(driver, "_EVERY_SECONDS", 0.001)
    with driver.watched(gpu.gpus * 2) as seen:
        used["second"] = 30
        deadline = time.monotonic() + 10
        while seen.added != [0, 23] and time.monotonic() < deadline:
            time.sleep(0.001)
        used["second"] = 8
    assert (seen.before, seen.added) == ([5, 7], [0, 23])


def test_memory_is_compared_as_it_was_before_it_was_let_go_of() -> None:
    """Not its peak: loading may have taken more."""
    seen = driver.Watched([10], [[10], [190], *[[110]] * 30, [60], [10], [12]])
    assert (seen.added, seen.at_the_end) == ([180], 100)


@pytest.mark.parametrize(
    ("needed", "held", "says"),
    [
        (2.2e9, 2.6e9, None),
        (2.2e9, 2.8e9, "8% apart"),
        (2.7e9, 2.6e9, "2.7 GB were needed and 2.6 GB held"),
        (1.5e9, 2.6e9, "more than a context takes"),
        (None, 2.6e9, "holds no memory of the GPU"),
        (2.2e9, None, "does not tell what the driver charges"),
    ],
)
def test_memory_that_does_not_add_up_fails(
    needed: float | None,
    held: float | None,
    says: str | None,
    setting: Setting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver tells of 2.6 GB."""
    result = bench([0.01, 0.02]) | {"device": "cuda", "device_peak_memory_bytes": needed}
    for batch in result["batches"]:
        own = None if held is None else {"bytes": int(held), "counted": "processes"}
        batch["memory"] = {"peak": 1, "kv_cache": 1, "activations": 1, "held": own}
    one = record("smollm2_135m", result, ("method=none",))
    seen = driver.Watched([0], [[0], [2_600_000_000], [0]])
    monkeypatch.setattr(driver, "watched", lambda _: contextlib.nullcontext(seen))
    monkeypatch.setattr(setting, "run", lambda *_, **__: [one])
    if says is None:
        assert "2.2 GB are accounted for and 400 MB are CUDA's own" in figures.memory(setting)
        return
    with pytest.raises(Failed, match=says):
        figures.memory(setting)


@pytest.mark.parametrize(
    ("names", "title", "file"),
    [
        (["NVIDIA H100 80GB HBM3"], "NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        (["NVIDIA L4"] * 2, "2 x NVIDIA L4", "2-x-nvidia-l4"),
        (["NVIDIA L4", "NVIDIA T4"], "NVIDIA L4, NVIDIA T4", "nvidia-l4-nvidia-t4"),
        ([], "CPU", "cpu"),
    ],
)
def test_a_report_is_called_by_all_gpus_of_the_machine(
    names: list[str], title: str, file: str, setting: Setting
) -> None:
    gpus = tuple(replace(setting.gpus[0], name=name) for name in names)
    setting.machine = replace(setting.machine, gpus=gpus)
    assert report.device_name(setting) == file
    assert report.page(report.content(setting, [], 1.0)).startswith(f"# {title}\n")
