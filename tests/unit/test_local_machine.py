"""This machine as a device: its newest measurement, its GPU as the driver tells it."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.config.schema.model import Architecture
from runner.errors import UsageError
from runner.pipeline.stages.plan import make_result
from runner.planning.devices import read_device
from runner.planning.hardware import detect as module
from runner.planning.hardware.detect import Gpu, Machine
from runner.planning.hardware.table import published_device
from runner.planning.local import local_device, measured_peaks
from tests.unit.conftest import MakeInputs

pytestmark = pytest.mark.unit

Measured = Callable[..., Path]


@pytest.fixture
def measured(store: Path) -> Measured:
    """Writes a measurement; each is newer than the one before, whatever it is called."""
    written = 0

    def write(key: str, content: Any = None, **result: Any) -> Path:
        nonlocal written
        written += 1
        path = store / "objects" / "hardware" / key / "result.json"
        path.parent.mkdir(parents=True)
        told = {"device": "cpu", "bandwidth_bytes_per_second": 20e9, "peak_teraflops": PEAKS}
        path.write_text(json.dumps({"result": told | result}) if content is None else content)
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
    assert measured_peaks(store, "cpu") == PEAKS


def test_without_fp32_nothing_counts_as_emulated(
    measured: Measured, cpu: Machine, store: Path
) -> None:
    measured("one", peak_teraflops={"bf16": 0.1})
    local = local_device(cpu, "cpu", store)
    assert local is not None and local.peak_teraflops == {"bf16": 0.1}


def test_a_measured_gpu_brings_its_price_and_link(
    measured: Measured, gpu: Machine, store: Path
) -> None:
    measured("one", device="cuda")
    measured("two")
    listed = read_device("a100_80_sxm")
    local = local_device(gpu, "cuda", store)
    assert local is not None
    assert (local.name, local.kind) == ("local", "local")
    assert (local.memory_gigabytes, local.visible_memory_gibibytes) == (85, 85e9 / 2**30)
    assert (local.interconnect, local.price) == (listed.interconnect, listed.price)
    assert local.price.dollars_per_hour and local.compute_capability == "8.0"
    beside = local_device(gpu, "cpu", store)
    assert beside is not None
    assert beside.memory_gigabytes == 24
    assert beside.price.dollars_per_hour is beside.compute_capability is None


def test_a_gpu_that_is_not_listed_or_has_no_memory_of_its_own(
    measured: Measured, gpu: Machine, cpu: Machine, store: Path
) -> None:
    measured("one", device="cuda")
    shared = replace(gpu, gpus=(Gpu("NVIDIA GB10", None, "12.1", "GPU-1"),))
    local = local_device(shared, "cuda", store)
    assert local is not None
    assert local.memory_gigabytes == 24
    assert local.price.dollars_per_hour is local.compute_capability is None
    gone = local_device(cpu, "cuda", store)
    assert gone is not None and gone.memory_gigabytes == 24


def test_the_newest_measurement_of_a_device_counts(
    measured: Measured, cpu: Machine, store: Path
) -> None:
    assert local_device(cpu, "cpu", store) is None
    assert measured_peaks(store, "cpu") == {}
    measured("m", peak_teraflops={"fp32": 1.0})
    measured("z", peak_teraflops={"fp32": 2.0})
    measured("a", peak_teraflops={"fp32": 3.0})
    assert measured_peaks(store, "cpu") == {"fp32": 3.0}
    # Neither other devices, nor what is damaged or another version's, hide it.
    measured("b", device="cuda", peak_teraflops={"fp32": 9.0})
    measured("c", content="{")
    measured("d", content="{}")
    measured("e", content="null")
    measured("f", content=json.dumps({"result": {"device": "cpu", "peak_teraflops": {}}}))
    assert measured_peaks(store, "cpu") == {"fp32": 3.0}
    assert measured_peaks(store, "cuda") == {"fp32": 9.0}
    assert measured_peaks(store, "cuda:1") == {}


class NotSupported(Exception):
    """As the driver's binding raises it."""


def binding(memory: int | None) -> Any:
    """The driver of two GPUs; handles are their numbers."""

    def memory_of(handle: int) -> SimpleNamespace:
        if memory is None:
            raise NotSupported
        return SimpleNamespace(total=memory + handle)

    return SimpleNamespace(
        NVMLError_NotSupported=NotSupported,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=memory_of,
        nvmlDeviceGetCudaComputeCapability=lambda handle: (8 + handle, 6),
        nvmlDeviceGetName=lambda handle: f"GPU {handle}",
        nvmlDeviceGetUUID=lambda handle: f"uuid-{handle}",
    )


@pytest.mark.parametrize("memory", [80_000, None])
def test_gpus_are_as_the_driver_tells(memory: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries: list[str] = []
    monkeypatch.setattr(module.ctypes, "CDLL", libraries.append)
    monkeypatch.setitem(sys.modules, "pynvml", binding(memory))
    assert module._gpus() == (
        Gpu("GPU 0", memory, "8.6", "uuid-0"),
        Gpu("GPU 1", None if memory is None else 80_001, "9.6", "uuid-1"),
    )
    assert libraries == ["libnvidia-ml.so.1"]


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(module.ctypes, "CDLL", missing)
    monkeypatch.setitem(sys.modules, "pynvml", binding(1))
    assert module._gpus() == ()


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
