"""This machine as a device: its newest measurement, its GPU as the driver tells it."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema.architecture import Architecture
from runner.errors import UsageError
from runner.pipeline.stages.plan import make_result
from runner.planning.devices import read_device
from runner.planning.hardware.detect import Machine
from runner.planning.hardware.table import published_device
from runner.planning.local import local_device, machine_key, measured_peaks
from runner.store.provenance import write_seal
from runner.util.gpus import Gpu
from tests.unit.conftest import MakeInputs

pytestmark = pytest.mark.unit

Measured = Callable[..., Path]


@pytest.fixture
def measured(store: Path, cpu: Machine) -> Measured:
    """Writes a measurement; each is newer than the one before, whatever it is called."""
    written = 0

    def write(key: str, content: Any = None, machine: Machine | None = cpu, **result: Any) -> Path:
        nonlocal written
        written += 1
        path = store / "objects" / "hardware" / key / "result.json"
        path.parent.mkdir(parents=True)
        told = {"device": "cpu", "bandwidth_bytes_per_second": 20e9, "peak_teraflops": PEAKS}
        path.write_text(json.dumps({"result": told | result}) if content is None else content)
        if machine is not None:
            write_seal(path.parent, {"machine": machine.identity()})
        os.utime(path, (written, written))
        return path

    return write


PEAKS = {"fp32": 0.5, "bf16": 0.25, "fp16": 0.5, "int8": 1.0}


def test_a_measured_cpu_is_a_device(measured: Measured, cpu: Machine, store: Path) -> None:
    measured("one")
    local = local_device(cpu, "cpu", store)
    assert local is not None
    assert (local.name, local.kind, local.source) == ("local", "local", "measured")
    assert local.memory_gigabytes == 24
    assert local.visible_memory_gibibytes == 24e9 / 2**30
    assert local.memory_bandwidth_gigabytes_per_second == 20
    # A format as fast as fp32 is had, one that is slower is emulated.
    assert local.peak_teraflops == {"fp32": 0.5, "fp16": 0.5, "int8": 1.0}
    assert local.native_formats == ["fp32", "fp16", "int8"]
    assert local.compute_capability is None and local.price.dollars_per_hour is None
    assert measured_peaks(store, machine_key(cpu.to_dict(), "cpu"), "cpu") == PEAKS


def test_without_fp32_nothing_counts_as_emulated(
    measured: Measured, cpu: Machine, store: Path
) -> None:
    measured("one", peak_teraflops={"bf16": 0.1})
    local = local_device(cpu, "cpu", store)
    assert local is not None and local.peak_teraflops == {"bf16": 0.1}


def test_a_measured_gpu_brings_its_price_and_link(
    measured: Measured, gpu: Machine, store: Path
) -> None:
    measured("one", machine=gpu, device="cuda")
    measured("two")
    listed = read_device("a100_80_sxm")
    local = local_device(gpu, "cuda", store)
    assert local is not None
    assert (local.name, local.kind) == ("local", "local")
    assert (local.memory_gigabytes, local.visible_memory_gibibytes) == (85, 85e9 / 2**30)
    assert (local.interconnect, local.price) == (listed.interconnect, listed.price)
    assert local.price.dollars_per_hour and local.compute_capability == "8.0"
    assert local.generation == listed.generation == "Ampere HBM"
    beside = local_device(gpu, "cpu", store)
    assert beside is not None
    assert beside.memory_gigabytes == 24
    assert beside.price.dollars_per_hour is beside.compute_capability is None
    assert beside.generation is None


def test_a_gpu_that_is_not_listed_or_has_no_memory_of_its_own(
    measured: Measured, gpu: Machine, cpu: Machine, store: Path
) -> None:
    shared = replace(gpu, gpus=(Gpu("NVIDIA Orin", None, "8.7", "GPU-1"),))
    measured("one", machine=shared, device="cuda")
    local = local_device(shared, "cuda", store)
    assert local is not None
    assert local.memory_gigabytes == 24
    assert local.price.dollars_per_hour is local.generation is None
    assert local.compute_capability == "8.7"
    assert local_device(cpu, "cuda", store) is None, "it is gone"


def test_a_gpu_that_is_not_listed_is_of_the_generation_of_its_compute_capability(
    measured: Measured, gpu: Machine, store: Path
) -> None:
    other = replace(gpu, gpus=(Gpu("NVIDIA GeForce RTX 4070", 12 * 10**9, "8.9", "GPU-1"),))
    measured("one", machine=other, device="cuda")
    local = local_device(other, "cuda", store)
    assert local is not None and local.generation == "Ada GDDR"
    assert local.interconnect.name is None


def test_the_newest_measurement_of_a_device_counts(
    measured: Measured, cpu: Machine, gpu: Machine, store: Path
) -> None:
    here, card = machine_key(cpu.to_dict(), "cpu"), machine_key(gpu.to_dict(), "cuda")
    assert local_device(cpu, "cpu", store) is None
    assert measured_peaks(store, here, "cpu") == {}
    measured("m", peak_teraflops={"fp32": 1.0})
    measured("z", peak_teraflops={"fp32": 2.0})
    measured("a", peak_teraflops={"fp32": 3.0})
    assert measured_peaks(store, here, "cpu") == {"fp32": 3.0}
    # Neither other devices, nor what is damaged or another version's, hide it.
    measured("b", machine=gpu, device="cuda", peak_teraflops={"fp32": 9.0})
    measured("c", content="{")
    measured("d", content="{}")
    measured("e", content="null")
    measured("f", content=json.dumps({"result": {"device": "cpu", "peak_teraflops": {}}}))
    assert measured_peaks(store, here, "cpu") == {"fp32": 3.0}
    assert measured_peaks(store, card, "cuda") == {"fp32": 9.0}
    assert measured_peaks(store, "NVIDIA T4", "cuda") == {}


def test_a_measurement_of_another_machine_is_not_this_ones(
    measured: Measured, cpu: Machine, gpu: Machine, store: Path
) -> None:
    """A store may be shared by machines of all kinds."""
    larger = replace(cpu, usable_cores=64)
    slower = replace(gpu, gpus=(Gpu("NVIDIA T4", 16 * 10**9, "7.5", "GPU-7"),))
    measured("mine", bandwidth_bytes_per_second=20e9)
    measured("larger", machine=larger, bandwidth_bytes_per_second=200e9)
    measured("card", machine=gpu, device="cuda", bandwidth_bytes_per_second=2e12)
    measured("slower", machine=slower, device="cuda", bandwidth_bytes_per_second=3e11)
    measured("unsealed", machine=None)

    def bandwidth(machine: Machine, device: str) -> float | None:
        local = local_device(machine, device, store)
        return None if local is None else local.memory_bandwidth_gigabytes_per_second

    assert [bandwidth(one, "cpu") for one in (cpu, larger)] == [20, 200]
    assert [bandwidth(one, "cuda") for one in (gpu, slower)] == [2000, 300]
    assert bandwidth(replace(cpu, usable_cores=8), "cpu") is None
    # Of two alike the limits of one were measured; it is told apart by nothing of its own.
    both = replace(gpu, gpus=(replace(gpu.gpus[0], uuid="GPU-8", index=1), *gpu.gpus))
    assert bandwidth(both, "cuda") == 2000


def test_a_published_device_is_found_by_its_name(cpu: Machine, gpu: Machine) -> None:
    assert published_device(cpu) is None
    found = published_device(gpu)
    assert found is not None and found == read_device("a100_80_sxm")
    other = replace(gpu, gpus=(replace(gpu.gpus[0], name="NVIDIA Nothing 9"),))
    assert published_device(other) is None


def test_a_plan_for_a_machine_that_was_never_measured_says_how_to(inputs: MakeInputs) -> None:
    one = inputs("stages=[plan]", "plan.devices=[local]")
    shape = Architecture(
        layers=2, hidden=64, intermediate=128, heads=4, kv_heads=4, head_dim=16, vocab=90
    )
    with pytest.raises(UsageError, match=r"local has not been measured yet; run runner stages="):
        make_result(one.config, shape, one.session)
