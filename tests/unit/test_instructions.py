"""What the CPU is taken to compute: as it reports, or as the override says, in both directions."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from runner.config.compose import quoted
from runner.config.schema.engine import Dtype, Engine
from runner.errors import UsageError
from runner.planning.compute import resolve_compute
from runner.planning.hardware.detect import detect
from runner.util.instructions import VARIABLE, kernel_limits, usable

pytestmark = pytest.mark.unit

EPYC = ["fpu", "avx2", "avx512f", "avx512_vnni", "avx512_bf16"]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", ("avx2", "avx512_bf16", "avx512_vnni", "avx512f")),
        ("-avx512_bf16", ("avx2", "avx512_vnni", "avx512f")),
        ("-avx512_bf16,-amx_bf16", ("avx2", "avx512_vnni", "avx512f")),
        ("+amx_bf16", ("amx_bf16", "avx2", "avx512_bf16", "avx512_vnni", "avx512f")),
        ("avx2", ("avx2",)),
        ("avx2 +amx_bf16", ("amx_bf16", "avx2")),
    ],
)
def test_the_override_adds_takes_away_and_replaces(
    said: str, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert usable(EPYC) == found


def test_an_unknown_instruction_set_is_a_wrong_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "-avx512bf16")
    with pytest.raises(UsageError, match=f"{VARIABLE} names avx512bf16; there are amx_bf16, "):
        usable(EPYC)


def test_an_unknown_instruction_set_ends_the_command_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "stages=[eval]",
         f"store.root={quoted(tmp_path / 'store')}"],
        cwd=tmp_path, env={VARIABLE: "bf17", "HOME": str(tmp_path)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"runner: {VARIABLE} names bf17; there are ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("said", "auto", "rounding"),
    [
        ("+avx512_bf16", "auto", "float32"),
        ("-avx512_bf16,-amx_bf16,-bf16", "float32", "float32"),
    ],
)
def test_auto_follows_the_override_and_rounding_is_float32_on_every_cpu(
    said: str, auto: str, rounding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    compute = resolve_compute(Engine("hf", device="cpu"), detect())
    assert compute.dtype == auto
    assert compute.rounding_dtype(Dtype.auto, "bfloat16", None) == rounding
    asked = resolve_compute(Engine("hf", device="cpu", dtype=Dtype.bfloat16), detect())
    assert asked.dtype == "bfloat16"
    assert asked.rounding_dtype(Dtype.auto, "bfloat16", None) == rounding, "no engine decides it"


def test_kernels_are_kept_to_what_the_override_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert kernel_limits(("avx2",)) == {}, "the libraries look for themselves"
    monkeypatch.setenv(VARIABLE, "-avx512_bf16")
    assert kernel_limits(("avx2", "avx512f")) == {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
    assert kernel_limits(("avx2",))["ATEN_CPU_CAPABILITY"] == "avx2"
    assert kernel_limits(("avx2", "avx512f", "avx512_bf16")) == {}
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert kernel_limits(("asimd",)) == {}, "these are x86's"
