"""The hardware table, and what detection makes of /proc, /sys and device names. Without torch."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runner.config.schema.hardware import Hardware, Interconnect
from runner.planning.hardware.detect import Machine, detect, recognises
from runner.util.gpus import Gpu

pytestmark = pytest.mark.unit

TABLE = Path(__file__).parents[2] / "conf" / "hardware"
FORMATS = {"fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4", "fp4"}
GENERATIONS = {
    "Volta HBM", "Turing GDDR", "Ampere HBM", "Ampere GDDR", "Ada GDDR", "Hopper HBM",
    "Blackwell HBM", "Blackwell GDDR", "Blackwell LPDDR", "CDNA3 HBM", "CDNA4 HBM",
    "RDNA3.5 LPDDR", "Battlemage GDDR", "Apple LPDDR", "Apple M5 LPDDR", "Gaudi3 HBM", "TPU HBM",
    "Trainium2 HBM",
}  # fmt: skip
"""One spelling each: tables of constants are kept by these."""
FILES = sorted(TABLE.glob("*.yaml"))


def load(path: Path) -> Hardware:
    merged = OmegaConf.merge(OmegaConf.structured(Hardware), OmegaConf.load(path))
    hardware = OmegaConf.to_object(merged)
    assert isinstance(hardware, Hardware)
    return hardware


ALL = {path.stem: load(path) for path in FILES}
LISTED = [hardware for name, hardware in ALL.items() if name != "local"]
CUDA = [hardware for hardware in LISTED if hardware.kind == "cuda"]


def machine_with(*gpu_names: str) -> Machine:
    gpus = tuple(Gpu(name, 80 * 10**9, "8.0", f"GPU-{name}") for name in gpu_names)
    return Machine("some CPU", "x86_64", 8, 8, (), None, 10**11, gpus)


def test_the_table_is_there() -> None:
    assert len(LISTED) == 54
    assert ALL["local"] == Hardware(name="local", kind="local")
    priced = sum(device.price.dollars_per_hour is not None for device in LISTED)
    said = (TABLE.parents[1] / "docs" / "plan.md").read_text("utf-8")
    assert f"has {len(LISTED)} devices: {len(CUDA)} of NVIDIA" in said
    assert f"({priced} have one)" in said


@pytest.mark.parametrize("hardware", LISTED, ids=lambda hardware: hardware.name)
def test_a_device_is_complete_and_plausible(hardware: Hardware) -> None:
    assert hardware is ALL[hardware.name], "the file bears the device's name"
    assert hardware.kind in {"cuda", "rocm", "xpu", "metal", "gaudi", "tpu", "trainium"}
    assert hardware.source
    # What Apple's, Google's and Amazon's chips draw is not published.
    assert hardware.power_watts or hardware.kind in {"metal", "tpu", "trainium"}
    assert 10 < (hardware.memory_gigabytes or 0) <= 512
    assert 100 < (hardware.memory_bandwidth_gigabytes_per_second or 0) < 10_000
    assert set(hardware.peak_teraflops) <= FORMATS
    assert set(hardware.native_formats) <= FORMATS
    price = hardware.price
    assert bool(price.dollars_per_hour) == bool(price.date) == bool(price.source)


@pytest.mark.parametrize("hardware", LISTED, ids=lambda hardware: hardware.name)
def test_a_device_says_by_what_its_constants_are_kept_and_how_it_reaches_others(
    hardware: Hardware,
) -> None:
    assert hardware.generation in GENERATIONS
    link = hardware.interconnect
    assert link.name or link.largest_group == 1
    if link.through_host:  # neither more than the host's connection gives, nor less
        bridge = replace(link, name="NVLink bridge", largest_group=1)
        assert bridge.among(2) == link
    if hardware.kind == "cuda" and not link.through_host:
        assert link.largest_group in {1, 2, 8, 72}


def test_a_group_too_large_for_its_link_takes_the_next_slower_one() -> None:
    pair = ALL["h100_nvl"].interconnect
    assert pair.among(2) is pair and not pair.through_host
    assert pair.among(4) == Interconnect("PCIe5", 128, pcie_generation=5)
    assert pair.among(4).through_host
    assert ALL["h100_sxm"].interconnect.among(16) == Interconnect(), "a network, which is unknown"
    assert ALL["l40s"].interconnect.among(8) is ALL["l40s"].interconnect
    assert Interconnect().among(8).name is None


def test_what_a_file_does_not_say_has_no_generation() -> None:
    assert Hardware("mine", "cuda", architecture="Ada").generation is None
    assert (
        Hardware("mine", "cuda", architecture="Ada", memory_type="gddr6x").generation == "Ada GDDR"
    )


@pytest.mark.parametrize("hardware", CUDA, ids=lambda hardware: hardware.name)
def test_native_formats_follow_the_compute_capability(hardware: Hardware) -> None:
    capability = tuple(int(part) for part in (hardware.compute_capability or "").split("."))
    native = set(hardware.native_formats)
    assert "fp16" in native
    assert ("fp8" in native) == (capability >= (8, 9))
    assert ("bf16" in native) == ("tf32" in native) == (capability >= (8, 0))
    # Blackwell Ultra gave its INT8 units up: 153 TOPS beside 2250 TFLOP/s in 16 bits.
    assert ("int8" in native) == (capability >= (7, 5) and capability != (10, 3))
    assert ("int4" in native) == ((7, 5) <= capability < (9, 0)), "emulated from Hopper on"
    assert ("fp4" in native) == (capability >= (10, 0))
    # A peak without matrix units of its own would be a wrong roofline.
    assert set(hardware.peak_teraflops) - {"fp32"} <= native


@pytest.mark.parametrize(
    ("name", "bf16", "w4a16"),
    [("a100_80_sxm", 153, 40), ("h100_sxm", 295, 77), ("h200_sxm", 206, 54), ("rtx4090", 164, 43)],
)
def test_crossover_batches_agree_with_the_published_ones(name: str, bf16: int, w4a16: int) -> None:
    """B* = peak * bits_per_weight / 8 / (2 * bandwidth); a smaller batch is memory-bound."""
    device = ALL[name]
    operations = device.peak_teraflops["bf16"] * 1e12
    bandwidth = (device.memory_bandwidth_gigabytes_per_second or 0) * 1e9
    assert round(operations * 16 / 8 / (2 * bandwidth)) == bf16
    # INT4 in groups of 128: a 16-bit scale and a 4-bit zero point to each group.
    assert round(operations * (4 + 20 / 128) / 8 / (2 * bandwidth)) == w4a16


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100_80_sxm"),
        ("NVIDIA A100-SXM4-40GB", "a100_40_sxm"),
        ("NVIDIA A100 80GB PCIe", "a100_80_pcie"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA H100 80GB HBM3", "h100_sxm"),
        ("NVIDIA H100 PCIe", "h100_pcie"),
        ("NVIDIA H100 NVL", "h100_nvl"),
        ("NVIDIA H200", "h200_sxm"),
        ("NVIDIA GB200", "gb200"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100_sxm2_32"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000_ada"),
        ("NVIDIA L20", "l20"),
        ("NVIDIA L2", None),
        ("NVIDIA H20", "h20"),
        ("NVIDIA H20-3e", None),
        ("NVIDIA B200", "b200_sxm"),
        ("NVIDIA B300 SXM6 AC", "b300_sxm"),
        ("NVIDIA GB300", "gb300"),
        ("NVIDIA GB10", "gb10"),
        ("NVIDIA A30", "a30"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000_server"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx_pro_6000_workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", None),
        ("NVIDIA RTX PRO 6000D Blackwell Workstation Edition", None),
        ("NVIDIA GeForce RTX 5080", "rtx5080"),
        ("NVIDIA GeForce RTX 5080 Laptop GPU", None),
        ("NVIDIA GeForce RTX 5070 Ti", "rtx5070_ti"),
        ("NVIDIA GeForce RTX 5070", None),
        ("NVIDIA GeForce RTX 5090 D v2", None),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("AMD Instinct MI300X VF", "mi300x"),
        ("AMD Instinct MI355X", "mi355x"),
        ("AMD Instinct MI350X", "mi350x"),
        ("AMD Radeon 8060S Graphics", "strix_halo"),
        ("Intel(R) Arc(TM) Pro B60 Graphics", "arc_b60"),
        ("Apple M4", "apple_m4"),
        ("Apple M4 Pro", "apple_m4_pro"),
        ("Apple M4 Max", "apple_m4_max"),
        ("Apple M3", None),
        ("NVIDIA A10-8Q", None),
        ("NVIDIA L40S-48Q", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA L40", None),
    ],
)
def test_a_reported_name_means_one_device(reported: str, expected: str | None) -> None:
    machine = machine_with("NVIDIA Something Else", reported)
    found = [hardware.name for hardware in LISTED if recognises(hardware, machine)]
    assert found == ([expected] if expected else [])


def test_local_is_every_machine() -> None:
    assert recognises(ALL["local"], machine_with())
    assert not any(recognises(hardware, machine_with()) for hardware in LISTED)


def test_detection_agrees_with_the_system() -> None:
    machine = detect()
    assert 1 <= machine.usable_cores <= (os.cpu_count() or 1)
    assert 2**28 < machine.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.cpu_name
    assert json.loads(json.dumps(machine.to_dict()))["usable_cores"] == machine.usable_cores
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        assert set(machine.instruction_sets) <= set(cpuinfo.read_text().split())


def test_detection_leaves_heavy_libraries_alone() -> None:
    program = (
        "import sys; from runner.planning.hardware.detect import detect; detect();"
        "sys.exit(bool({'torch', 'omegaconf', 'numpy'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.usefixtures("sixteen_cpus")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 16),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 16),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, 3),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "10000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "9900000 100000"}, 16),
        (  # the parent's quota is the stricter one
            {
                "proc/self/cgroup": "0::/slice/job",
                "sys/fs/cgroup/slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/slice/job/cpu.max": "400000 100000",
            },
            2,
        ),
        (  # version 1, in a container: the path is the host's, the mount is the container's
            {
                "proc/self/cgroup": "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            16,
        ),
    ],
)
def test_usable_cores_heed_the_quota(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    write(tmp_path, files)
    assert detect(tmp_path).usable_cores == cores


@pytest.mark.parametrize(
    ("files", "memory_bytes"),
    [
        ({}, 4096 * 1024),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.max": "max"}, 4096 * 1024),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.max": "1000000"}, 1_000_000),
        (
            {
                "proc/self/cgroup": "4:memory:/a",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2000000",
            },
            2_000_000,
        ),
    ],
)
def test_memory_heeds_the_limit(tmp_path: Path, files: dict[str, str], memory_bytes: int) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal:        4096 kB\nMemFree: 1 kB", **files})
    assert detect(tmp_path).memory_bytes == memory_bytes


@pytest.mark.usefixtures("sixteen_cpus")
def test_last_level_caches_add_up(tmp_path: Path) -> None:
    """Two caches of eight hardware threads each: four cores, numbered as kernels number them."""
    for cpu in range(16):
        shared = "0-3,8-11" if cpu in {0, 1, 2, 3, 8, 9, 10, 11} else "4-7,12-15"
        cache = f"sys/devices/system/cpu/cpu{cpu}/cache"
        write(
            tmp_path,
            {
                f"{cache}/index0/level": "1",
                f"{cache}/index0/size": "32K",
                f"{cache}/index0/shared_cpu_list": str(cpu),
                f"{cache}/index3/level": "3",
                f"{cache}/index3/size": "32768K",
                f"{cache}/index3/shared_cpu_list": shared,
                f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": str(cpu % 8),
            },
        )
    machine = detect(tmp_path)
    assert machine.last_level_cache_bytes == 2 * 32768 * 1024
    assert machine.physical_cores == 8


@pytest.mark.parametrize(
    ("cpuinfo", "bfloat16"),
    [
        ("model name\t: Old\nflags\t\t: fpu avx2 avx512f\n\nmodel name\t: New", False),
        ("model name\t: Xeon\nflags\t\t: fpu avx2 avx512f amx_bf16", True),
        ("model name\t: EPYC\nflags\t\t: avx512_bf16", True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 sve", True),
        ("processor\t: 0\nFeatures\t: fp asimd", False),
    ],
)
def test_bfloat16_arithmetic_is_read_from_the_flags(
    tmp_path: Path, cpuinfo: str, bfloat16: bool
) -> None:
    write(tmp_path, {"proc/cpuinfo": cpuinfo})
    machine = detect(tmp_path)
    assert machine.computes_bfloat16 is bfloat16
    assert "fpu" not in machine.instruction_sets
    assert machine.cpu_name != "New", "of the first CPU, as its flags are"


def test_an_empty_system_is_described_all_the_same(tmp_path: Path) -> None:
    machine = detect(tmp_path)
    assert machine.last_level_cache_bytes is None
    assert machine.physical_cores is None
    assert machine.instruction_sets == ()
    assert machine.memory_bytes > 0
