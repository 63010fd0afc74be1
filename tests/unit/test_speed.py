"""Speed, operations and energy from readings, against cases worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.engines.base import Footprint, GenerationTiming
from runner.engines.hf.model import HfModel
from runner.engines.instruments.energy import Energy, EnergyMeter, total
from runner.engines.instruments.memory import control_group_memory
from runner.evaluation.metrics.flops import ForwardWork, forward_work
from runner.evaluation.metrics.speed import (
    BatchMemory,
    BatchResult,
    Limits,
    batch_result,
    in_turns,
    outliers,
)
from tests.stub_driver import H100, cards
from tests.unit.conftest import StubDriver
from tests.unit.test_gpus import SLICED
from tests.unit.test_hardware import write

pytestmark = pytest.mark.unit

WORK = ForwardWork(body_parameters=1000, head_parameters=200, layers=2, heads=3, head_dim=4)
FOOTPRINT = Footprint(4000, 3000, 10, {"float32": 4000})
TIMINGS = [GenerationTiming(0.5, [0.1, 0.1, 0.1]), GenerationTiming(0.3, [0.2, 0.2, 0.2])]


def measured(energy: Energy | None = None, limits: list[Limits] | None = None) -> BatchResult:
    return batch_result(
        TIMINGS,
        batch_size=2,
        prompt_tokens=8,
        new_tokens=4,
        footprint=FOOTPRINT,
        work=WORK,
        arithmetic="fp32",
        limits=limits or [Limits("measured", 40_000.0, {"fp32": 1e-6})],
        memory=BatchMemory(1, None, None),
        energy=energy,
    )


def test_latencies_and_rates() -> None:
    found = measured()
    assert found.time_to_first_token_seconds.samples == [0.5, 0.3]
    assert found.inter_token_latency_seconds.samples == pytest.approx([0.1] * 3 + [0.2] * 3)
    # TPOT leaves the first token out: 0.3 s for 3 tokens, 0.6 s for 3.
    assert found.time_per_output_token_seconds.samples == pytest.approx([0.1, 0.2])
    assert found.request_latency_seconds.samples == pytest.approx([0.8, 0.9])
    assert found.prefill_tokens_per_second.samples == pytest.approx([32.0, 16 / 0.3])
    assert found.decode_tokens_per_second.samples == pytest.approx([20.0, 10.0])
    assert found.decode_noise is not None and found.decode_noise > 1


def test_parts_of_the_limits() -> None:
    listed = Limits("h100_sxm", 400_000.0, {"fp16": 1.0})
    found = measured(limits=[Limits("measured", 40_000.0, {"fp32": 1e-6}), listed])
    here, there = found.utilization
    # 3000 bytes of weights and 2 sequences x 10 tokens x 10 bytes, every 0.15 s.
    assert here.memory_bandwidth == pytest.approx(3200 / 0.15 / 40_000)
    assert found.memory_bandwidth_utilization == here.memory_bandwidth
    assert there.memory_bandwidth == pytest.approx(3200 / 0.15 / 400_000)
    assert here.prefill_flops == pytest.approx(WORK.prefill_flops(2, 8) / 0.4 / 1e6)
    assert here.decode_flops == pytest.approx(WORK.decode_flops(2, 10) / 0.15 / 1e6)
    assert there.decode_flops is None, "its fp32 peak is not listed"


def test_operations_by_hand() -> None:
    # Per sequence: 2 x (1000 x 8 + 200) and 2 layers x 2 x 3 heads x 4 wide x 8^2.
    assert WORK.prefill_flops(2, 8) == 2 * (2 * 8200 + 2 * 2 * 3 * 4 * 64)
    # Per sequence: 2 x 1200 and 4 x 2 x 3 x 4 x 10.
    assert WORK.decode_flops(2, 10) == 2 * (2400 + 960)


@pytest.mark.parametrize("parameters", [8_030_261_248, None])
def test_dimensions_of_llama_31_8b(parameters: int | None) -> None:
    """6.98 G weights in 32 layers, 0.53 G in the head; about 15 GFLOP a token."""
    work = forward_work(
        layers=32, hidden=4096, intermediate=14336, heads=32, kv_heads=8, head_dim=128,
        vocab=128256, parameters=parameters, tied_embeddings=False,
    )  # fmt: skip
    assert work is not None
    assert work.body_parameters == pytest.approx(6.98e9, rel=0.001)
    assert work.decode_flops(1, 0) == pytest.approx(15.0e9, rel=0.01)
    # At 8192 tokens attention adds 4 x 32 x 4096 x 8192 = 4.3 GFLOP.
    assert work.decode_flops(1, 8192) - work.decode_flops(1, 0) == pytest.approx(4.295e9, rel=0.001)


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_embedding_is_counted_once(tied: bool) -> None:
    work = forward_work(
        layers=2, hidden=8, intermediate=None, heads=2, kv_heads=None, head_dim=4,
        vocab=100, parameters=3000, tied_embeddings=tied,
    )  # fmt: skip
    assert work is not None
    assert work.body_parameters == 3000 - 800 * (1 if tied else 2)
    assert work.head_parameters == 800


@pytest.mark.parametrize("unknown", ["layers", "hidden", "heads", "head_dim", "vocab", "kv_heads"])
def test_without_one_dimension_nothing_is_counted(unknown: str) -> None:
    known = {"layers": 2, "hidden": 8, "intermediate": 16, "heads": 2, "kv_heads": 1}
    known |= {"head_dim": 4, "vocab": 100}
    work = forward_work(**known, parameters=None, tied_embeddings=True)
    assert work is not None
    assert work.body_parameters == 2 * (2 * 8 * 3 * 4 + 3 * 8 * 16)
    without = {**known, unknown: None}
    assert forward_work(**without, parameters=None, tied_embeddings=True) is None


def test_unknown_dimensions_are_absent() -> None:
    nothing = dict.fromkeys(
        ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "parameters")
    )
    assert forward_work(**nothing, tied_embeddings=None) is None


def test_outliers_are_counted_and_kept() -> None:
    samples = [1.0, 1.01, 0.99, 1.02, 0.98, 5.0]
    assert outliers(samples) == 1
    assert outliers([1.0] * 5) == 0


def test_turns_are_paired() -> None:
    slow = [GenerationTiming(1.0, [0.2 * f]) for f in (1.0, 2.0, 3.0)]
    fast = [GenerationTiming(1.0, [0.1 * f]) for f in (1.0, 2.0, 3.0)]
    found = in_turns(slow, fast, 4)
    assert found.decode.ratio.estimate == pytest.approx(0.5)
    assert not found.decode.within_noise
    assert found.time_to_first_token.within_noise
    assert found.batch_size == 4
    assert found.decode_tokens_per_second.samples[0] == pytest.approx(20.0)
    assert found.baseline_decode_tokens_per_second.samples[0] == pytest.approx(40.0)


def test_energy_of_a_package_that_wrapped_around(tmp_path: Path) -> None:
    zone = "intel-rapl:0"
    write(tmp_path, {f"{zone}/name": "package-0", f"{zone}/energy_uj": "9000000",
                     f"{zone}/max_energy_range_uj": "10000000",
                     f"{zone}/intel-rapl:0:0/energy_uj": "1"})  # fmt: skip
    # Its part (a core domain) is linked beside it and must not count twice.
    write(tmp_path, {"intel-rapl:0:0/name": "core", "intel-rapl:0:0/energy_uj": "5"})
    meter = EnergyMeter("cpu", tmp_path)
    before = meter.read()
    assert before == {"package-0": 9.0}
    write(tmp_path, {f"{zone}/energy_uj": "2000000"})
    energy = meter.between(before, meter.read())
    assert energy is not None
    assert energy.by_device == pytest.approx({"package-0": 3.0})
    found = measured(energy)
    assert found.energy_joules_per_token == pytest.approx(3.0 / (2 * 4 * 2))


def test_energy_that_is_not_exposed_is_absent(tmp_path: Path) -> None:
    meter = EnergyMeter("cpu", tmp_path)
    assert meter.between(meter.read(), meter.read()) is None
    assert measured().energy_joules_per_token is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.current": "5",
          "sys/fs/cgroup/a/memory.max": "max"}, (5, None, None)),
        ({"proc/self/cgroup": "4:memory:/b\n0::/", "sys/fs/cgroup/memory/b/memory.usage_in_bytes":
          "7", "sys/fs/cgroup/memory/b/memory.max_usage_in_bytes": "9",
          "sys/fs/cgroup/memory/b/memory.limit_in_bytes": "9223372036854771712"}, (7, 9, None)),
        ({"proc/self/cgroup": "4:memory:/host/b", "sys/fs/cgroup/memory/memory.usage_in_bytes": "7",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": "8"}, (7, None, 8)),
    ],
)  # fmt: skip
def test_control_groups_of_both_versions(
    tmp_path: Path, files: dict[str, str], expected: tuple[int | None, ...]
) -> None:
    write(tmp_path, files)
    found = control_group_memory(tmp_path)
    assert found is not None
    assert (found.current_bytes, found.peak_bytes, found.limit_bytes) == expected


def test_no_control_group(tmp_path: Path) -> None:
    assert control_group_memory(tmp_path) is None


@pytest.fixture
def gpus(stub_driver: StubDriver) -> Callable[..., None]:
    """Sets what the driver says of four GPUs, of which CUDA knows the last and the second."""

    def tell(**said: str | None) -> None:
        stub_driver(cards(H100, H100, H100, H100), CUDA_VISIBLE_DEVICES="3,1", **said)

    return tell


def test_energy_is_of_the_gpus_that_this_process_may_use(
    gpus: Callable[..., None], tmp_path: Path
) -> None:
    """A cluster hides the others, which NVML counts all the same."""
    gpus(STUB_MILLIJOULES="0|1000|2000|3000")
    meter = EnergyMeter("cuda", tmp_path)
    before = meter.read()
    assert before == {"gpu-0": 3.0, "gpu-1": 1.0}
    gpus(STUB_MILLIJOULES="1000000|1500|1000000|5000")
    assert meter.between(before, meter.read()) == Energy(2.5, {"gpu-0": 2.0, "gpu-1": 0.5})
    assert EnergyMeter("cpu", tmp_path).read() == {}
    gpus(STUB_MILLIJOULES="1000000|1500|1000000|-")
    assert meter.read() == {"gpu-1": 1.5}, "the other has no such counter"


PACKAGE = {"intel-rapl:0/name": "package-0", "intel-rapl:0/energy_uj": "3000000"}


def used(meter: EnergyMeter) -> Energy | None:
    return meter.between(meter.read(), meter.read())


def test_energy_of_some_of_the_gpus_is_no_energy(gpus: Callable[..., None], tmp_path: Path) -> None:
    """Nor is that of the processors that feed them."""
    write(tmp_path, PACKAGE)
    gpus(STUB_MILLIJOULES="0|1000|2000|3000")
    both = {"gpu-0": 0.0, "gpu-1": 0.0, "package-0": 0.0}
    assert used(EnergyMeter("cuda", tmp_path)) == Energy(0.0, both)
    for missing in ("0|1000|2000|-", "0|-|2000|3000", "-|-|-|-"):
        gpus(STUB_MILLIJOULES=missing)
        assert used(EnergyMeter("cuda", tmp_path)) is None
        assert used(EnergyMeter("cpu", tmp_path)) == Energy(0.0, {"package-0": 0.0})
    meter = EnergyMeter("cuda", tmp_path)
    gpus(STUB_MILLIJOULES="0|1000|2000|3000")
    before = meter.read()
    gpus(STUB_MILLIJOULES="0|1000|2000|-")
    assert meter.between(before, meter.read()) is None, "it has stopped to answer"


def test_a_slice_has_no_counter_of_its_own(stub_driver: StubDriver, tmp_path: Path) -> None:
    """Its card's counts what others do in theirs."""
    stub_driver(SLICED, CUDA_VISIBLE_DEVICES="MIG-2ccc", STUB_MILLIJOULES="5000")
    write(tmp_path, PACKAGE)
    assert used(EnergyMeter("cuda", tmp_path)) is None


def test_energy_is_of_all_packages_or_of_none(tmp_path: Path) -> None:
    write(tmp_path, PACKAGE | {"intel-rapl:1/name": "package-1"})
    assert used(EnergyMeter("cpu", tmp_path)) is None, "the second may not be read"
    write(tmp_path, {"intel-rapl:1/energy_uj": "1"})
    found = used(EnergyMeter("cpu", tmp_path))
    assert found is not None and [*found.by_device] == ["package-0", "package-1"]
    # The whole platform's counter has them in it.
    write(tmp_path, {"intel-rapl:2/name": "psys", "intel-rapl:2/energy_uj": "4"})
    assert used(EnergyMeter("cpu", tmp_path)) == found
    one, other = Energy(1.0, {"package-0": 1.0}), Energy(3.0, {"package-0": 1.0, "gpu-0": 2.0})
    assert total([one, other]) is None


def test_without_a_driver_no_gpu_is_metered(stub_driver: StubDriver, tmp_path: Path) -> None:
    stub_driver(None)
    assert EnergyMeter("cuda", tmp_path).read() == {}
    assert used(EnergyMeter("cuda", tmp_path)) is None


def test_a_gpu_is_waited_for_before_the_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    waits: list[int] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert HfModel(None, "cpu")._now() <= HfModel(None, "cuda")._now()
    assert waits == [0, 1], "each of those that share the model"
