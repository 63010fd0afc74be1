"""Which GPUs a process may use, on a stub of the driver."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.environments.ready import ReadyEnvironment
from runner.pipeline.record import RunIdentity, new_record
from runner.pipeline.stages.jobs.hardware import STAGE as HARDWARE
from runner.pipeline.worker.start import Start
from runner.planning.hardware.detect import detect
from runner.util.gpus import Gpu, handles, visible_gpus, visible_variables
from tests.stub_driver import A100, H100, L4, cards, for_processes
from tests.unit.conftest import MakeInputs, StubDriver

pytestmark = pytest.mark.unit

NOWHERE = ReadyEnvironment("nowhere", "/nowhere", {}, {"CUDA_VISIBLE_DEVICES": "0"})
SLICED = (
    "NVIDIA A100-SXM4-40GB;42949672960;8.0;GPU-9bbb;"
    "NVIDIA A100-SXM4-40GB MIG 3g.20gb,20937965568,MIG-1ccc/"
    "NVIDIA A100-SXM4-40GB MIG 2g.10gb,10468982784,MIG-2ccc"
)


def test_gpus_are_as_the_driver_tells(stub_driver: StubDriver) -> None:
    stub_driver(cards(H100, "Quadro P400;2147483648;6.1;GPU-{uuid}", "NVIDIA GB10;-;12.1;GPU-g"))
    assert visible_gpus() == (
        Gpu("NVIDIA H100 80GB HBM3", 85520809984, "9.0", "GPU-0aaa", 0),
        Gpu("Quadro P400", 2147483648, "6.1", "GPU-1aaa", 1),
        Gpu("NVIDIA GB10", None, "12.1", "GPU-g", 2),
    )


@pytest.mark.parametrize("asked", [None, "0", "GPU-1aaa"])
def test_gpus_that_a_cluster_locks_away_are_not_counted(
    asked: str | None, stub_driver: StubDriver
) -> None:
    """Slurm numbers the rest from 0 where it locks devices away, and NVML lists all."""
    stub_driver(cards(f"!{H100}", A100, f"!{L4}"), CUDA_VISIBLE_DEVICES=asked)
    assert [(gpu.uuid, gpu.index) for gpu in visible_gpus()] == [("GPU-1aaa", 0)]
    assert len(handles()) == 1


def test_without_a_driver_there_is_no_gpu(stub_driver: StubDriver) -> None:
    stub_driver(None)
    assert visible_gpus() == () and handles() == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("1,7,0", [1]),
        ("1,x,0", [1]),
        ("1,1", []),
        ("GPU-2aaa,0", [2, 0]),
        ("GPU-1", [1]),
        ("GPU-", []),
        ("0,GPU-0aaa", []),
        ("gpu-1aaa", []),
    ],
)
def test_cuda_visible_devices_decides_which_gpus_there_are(
    asked: str | None, found: list[int], stub_driver: StubDriver
) -> None:
    stub_driver(cards(H100, A100, L4), CUDA_VISIBLE_DEVICES=asked)
    assert [gpu.index for gpu in visible_gpus()] == found
    assert len(handles()) == len(found)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, ["GPU-0aaa", "MIG-1ccc", "MIG-2ccc"]),
        ("MIG-2ccc", ["MIG-2ccc"]),
        ("1", ["MIG-1ccc", "MIG-2ccc"]),
        ("MIG-1", ["MIG-1ccc"]),
        ("GPU-9bbb", []),
    ],
)
def test_a_gpu_in_mig_mode_is_its_slices(
    asked: str | None, found: list[str], stub_driver: StubDriver
) -> None:
    stub_driver(f"{cards(H100)}|{SLICED}", CUDA_VISIBLE_DEVICES=asked)
    gpus = visible_gpus()
    assert [gpu.uuid for gpu in gpus] == found
    slices = [gpu for gpu in gpus if gpu.is_slice]
    assert len(slices) == len([name for name in found if name.startswith("MIG-")])
    for gpu in slices:
        assert gpu.compute_capability == "8.0" and " MIG " in gpu.name
        assert gpu.memory_bytes in (20937965568, 10468982784)


def test_a_process_finds_the_gpus_that_it_is_given(stub_driver: StubDriver) -> None:
    """Whatever the order, and whatever this process itself may use."""
    stub_driver(f"{cards(H100, L4)}|{SLICED}", CUDA_VISIBLE_DEVICES="MIG-2ccc,1,0")
    for chosen in [(), visible_gpus()[:1], visible_gpus()[1:]]:
        stub_driver(f"{cards(H100, L4)}|{SLICED}", **visible_variables(chosen))
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert visible_gpus() == chosen
        stub_driver(f"{cards(H100, L4)}|{SLICED}", CUDA_VISIBLE_DEVICES="MIG-2ccc,1,0")


@pytest.mark.parametrize("has_binding", [True, False])
def test_a_worker_on_a_gpu_reaches_the_driver(
    has_binding: bool, stub_driver: StubDriver, tmp_path: Path
) -> None:
    """Its energy and memory are read through a binding that its environment may lack."""
    stub_driver(cards(H100))
    other = ReadyEnvironment("other", "/elsewhere", {"nvidia-ml-py": "13"} if has_binding else {})
    on_gpu, on_cpu = (
        dict(Start.of(other, tmp_path, visible_variables(gpus)).variables)["PYTHONPATH"].split(":")
        for gpus in (visible_gpus(), ())
    )
    assert len(on_cpu) == 1 and on_gpu[:1] == on_cpu
    bindings = [str(path) for folder in on_gpu for path in Path(folder).glob("pynvml.py")]
    assert len(bindings) == (0 if has_binding else 1)


def test_float32_is_no_tf32_in_a_container_that_switches_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless an environment's own settings do."""
    name = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
    monkeypatch.setenv(name, "1")
    for own, found in (({}, "0"), ({name: "1"}, "1")):
        chosen = ReadyEnvironment("other", "/elsewhere", {}, variables=own)
        assert dict(Start.of(chosen, tmp_path, visible_variables(())).variables)[name] == found


def test_looking_for_gpus_imports_no_torch() -> None:
    program = (
        "import json, sys; from runner.planning.hardware.detect import detect; "
        "print(json.dumps([[gpu.uuid for gpu in detect().gpus], 'torch' in sys.modules]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **for_processes(cards(H100, L4)), "CUDA_VISIBLE_DEVICES": "1"},
        capture_output=True,
        check=True,
    )
    assert json.loads(found.stdout) == [["GPU-1aaa"], False]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda:1"])
def test_workers_find_the_gpus_in_use_and_no_others(
    device: str, stub_driver: StubDriver, inputs: MakeInputs, tmp_path: Path
) -> None:
    """A library takes whichever it finds, be the device a CPU."""
    stub_driver(cards(H100, A100, L4), CUDA_VISIBLE_DEVICES="2,1")
    given = inputs("model=tiny", f"engine.device={device}", machine=detect())
    task = given.task(HARDWARE, None, NOWHERE)
    start = Start.of(NOWHERE, tmp_path, visible_variables(task.gpus))
    found = dict(start.variables)["CUDA_VISIBLE_DEVICES"]
    assert found == {"auto": "GPU-2aaa", "cpu": "", "cuda:1": "GPU-1aaa"}[device]
    described = given.machine.identity()["gpus"]
    assert [gpu["name"] for gpu in described] == [gpu.name for gpu in task.gpus]
    assert not any({"uuid", "index"} & gpu.keys() for gpu in described), "those alike share results"
    record = new_record(given.config, detect(), RunIdentity("s", 0, []))
    assert ",".join(gpu["uuid"] for gpu in record.host["gpus"]) == found
