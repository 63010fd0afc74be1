"""Where stages compute and in which type: resolved for machines with and without units and room."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema.engine import Dtype, Engine
from runner.config.schema.hardware import Hardware
from runner.engines.vllm.settings import Vllm
from runner.errors import UsageError
from runner.planning.compute import Compute, resolve_compute, told_dtype
from runner.planning.devices import device_names, devices_of, read_device
from runner.planning.hardware.detect import Machine
from runner.util.gpus import Gpu

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_a_gpu_is_used_where_there_is_one(asked: str, gpu: Machine) -> None:
    found = resolve_compute(Engine("hf", device=asked), gpu)
    assert found == Compute("cuda", "auto", 2, 85_000_000_000, gpu.gpus, 24_000_000_000)


def test_the_gpus_in_use_are_those_that_were_asked_for(gpu: Machine) -> None:
    cards = tuple(
        Gpu(f"card {n}", size, "8.0", f"GPU-{n}", n) for n, size in enumerate((30, 10, None, 20))
    )
    machine = replace(gpu, gpus=cards, memory_bytes=99)

    def used(engine: Engine) -> tuple[list[int | None], int | None]:
        found = resolve_compute(engine, machine)
        assert found.device == ("cuda" if engine.device != "cpu" else "cpu")
        return [one.index for one in found.gpus], found.memory_bytes

    assert used(Engine("hf")) == used(Engine("hf", device="cuda:0")) == ([0], 30)
    assert used(Engine("hf", device="cuda:3")) == ([3], 20)
    assert used(Engine("hf", device="cuda:2")) == ([2], 99), "it has none of its own"
    assert used(Engine("hf", device="cuda:4")) == ([], None), "which legality refuses"
    assert used(Engine("hf", device="cpu")) == ([], 99)
    assert used(Vllm("vllm", tensor_parallel_size=2)) == ([0, 1], 10)
    assert used(Vllm("vllm", device="cuda:2", tensor_parallel_size=2)) == ([2, 3], 20)


@pytest.mark.parametrize(
    ("sets", "asked", "dtype"),
    [
        (("avx2",), Dtype.auto, "float32"),
        (("avx512_bf16",), Dtype.auto, "auto"),
        (("avx2",), Dtype.bfloat16, "bfloat16"),
        (("avx512_bf16",), Dtype.float32, "float32"),
    ],
)
def test_a_cpu_without_bfloat16_computes_in_float32(
    sets: tuple[str, ...], asked: Dtype, dtype: str, cpu: Machine, gpu: Machine
) -> None:
    machine = replace(cpu, instruction_sets=sets)
    expected = Compute("cpu", dtype, 2, 24_000_000_000)
    assert resolve_compute(Engine("hf", dtype=asked), machine) == expected
    with_gpu = replace(gpu, instruction_sets=sets)
    assert resolve_compute(Engine("hf", dtype=asked, device="cpu"), with_gpu) == expected
    assert resolve_compute(Engine("hf", dtype=asked, threads=7), machine).threads == 7


@pytest.mark.parametrize(
    ("parameters", "memory", "fits"),
    [
        (200, 1000, True),  # 800 bytes are 80%
        (201, 1000, False),
        (None, 1000, True),
        (10**12, None, True),
        (0, 0, True),
        (1, 0, False),
    ],
)
def test_float32_leaves_a_fifth_of_the_memory(
    parameters: int | None, memory: int | None, fits: bool
) -> None:
    compute = Compute("cuda", "auto", 1, memory)
    assert compute.holds_float32(parameters) is fits
    assert compute.rounding_dtype(Dtype.auto, "float16", parameters) == (
        "float32" if fits else "float16"
    )
    assert replace(compute, device="cpu").rounding_dtype(Dtype.auto, "float16", parameters) == (
        "float32"
    )
    assert compute.rounding_dtype(Dtype.bfloat16, "float16", parameters) == "bfloat16"


def test_a_model_is_timed_in_its_own_type_or_the_one_asked_for() -> None:
    assert Compute("cpu", "auto", 1).dtype_for("float16") == "float16"
    assert Compute("cpu", "float32", 1).dtype_for("float16") == "float32"


@pytest.mark.parametrize(
    ("content", "dtype"),
    [
        ({}, None),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"dtype": "bfloat16", "torch_dtype": "float32"}, "bfloat16"),
        ({"text_config": {"torch_dtype": "float16"}}, "float16"),
        ({"text_config": {"dtype": "float16"}, "dtype": "float32"}, "float32"),
        ({"torch_dtype": None, "text_config": None}, None),
    ],
)
def test_the_type_that_a_config_tells(
    content: dict[str, Any], dtype: str | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert told_dtype(tmp_path) == dtype


def test_devices_of_a_plan() -> None:
    mine = Hardware(name="t4", kind="cuda", memory_gigabytes=1)
    assert devices_of(["t4", "l4"], mine) == [mine, read_device("l4")]
    assert devices_of([], mine) == [mine]
    everything = [device.name for device in devices_of(["all"], mine)]
    assert everything == sorted(everything) == list(device_names())


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("h100", "did you mean h100_nvl or h100_pcie or h100_sxm? "),
        ("RTX 5090", "did you mean rtx5090? "),
        ("rtx-pro-6000", "did you mean rtx_pro_6000_server or rtx_pro_6000_workstation? "),
        ("h100_sxn", "did you mean h100_sxm or h200_sxm or h100_nvl? "),
        ("", ""),
        ("quantum", ""),
    ],
)
def test_an_unknown_device_is_answered_with_those_that_may_be_meant(name: str, guess: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_device(name)
    assert str(refused.value) == (
        f"plan.devices: there is no {name}; {guess}"
        f"(files in conf/hardware: {', '.join(device_names())})"
    )
