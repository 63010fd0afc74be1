"""What a measurement makes of times: a clock and kernels whose speed is known, no real timing."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runner.errors import UsageError
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.stages.bench.limits import arithmetic
from runner.planning.hardware import measure as module
from runner.planning.hardware import products as products_module
from runner.planning.hardware.measure import GemmRate, Measurement, measure
from tests.unit.conftest import MakeInputs, raising

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")
MIB = 2**20


@dataclass
class Clock:
    """Time that passes only where a kernel takes some."""

    now: float = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def kernel_of(clock: Clock, durations: Iterator[float]) -> Callable[[], None]:
    def kernel() -> None:
        clock.now += next(durations)

    return kernel


def forever(*first: float) -> Iterator[float]:
    yield from first
    while True:
        yield first[-1]


@pytest.mark.parametrize(
    ("durations", "budget", "samples"),
    [
        # The first call warms up; three are the least, whatever they take.
        ((9.0, 1.0, 2.0, 4.0), 0.0, [1.0, 2.0, 4.0]),
        ((1.0,), 2.5, [1.0] * 3),
        ((9.0, 1.0), 3.0, [1.0] * 3),
        # At 2.0 seconds the budget is spent.
        ((9.0, 0.25), 2.0, [0.25] * 8),
        ((9.0, 0.25), 2.125, [0.25] * 9),
        ((9.0, 0.25), 1e9, [0.25] * 50),
    ],
)
def test_calls_are_timed_one_by_one_until_the_budget_is_spent(
    durations: tuple[float, ...], budget: float, samples: list[float], clock: Clock
) -> None:
    kernel = kernel_of(clock, forever(*durations))
    assert module._seconds_per_call(kernel, CPU, budget) == samples


def test_a_gpu_is_waited_for_after_twenty_calls(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls return at once; the device works through what is queued when it is waited for."""
    queued: list[int] = []
    waits: list[tuple[object, int]] = []

    def synchronize(device: object) -> None:
        clock.now += 0.5 * len(queued)
        waits.append((device, len(queued)))
        queued.clear()

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    device = torch.device("cuda:1")
    samples = module._seconds_per_call(lambda: queued.append(1), device, 35.0)
    assert samples == [0.5] * 4
    assert waits == [(device, 1), *[(device, 20)] * 4]


def test_bandwidth_is_bytes_over_seconds_of_the_fastest_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its median: a kernel with one fast pass is not the fastest."""
    seconds = iter(([2.0, 4.0, 4.0], [4.0, 2.0, 2.0, 1.0], [8.0, 0.5, 8.0]))
    results: list[torch.Tensor] = []

    def timed(kernel: Callable[[], Any], device: torch.device, budget: float) -> list[float]:
        results.append(kernel())
        assert (device, budget) == (CPU, 0.3)
        return next(seconds)

    monkeypatch.setattr(module, "_seconds_per_call", timed)
    name, rates = module._bandwidth(CPU, 4 * MIB)
    assert name == "sum"
    assert rates == [MIB, 2 * MIB, 2 * MIB, 4 * MIB]
    # Each has read 2**20 ones of 4 bytes: as 64 rows of 16384, or all at once.
    products, total, rows = results
    assert products.tolist() == rows.tolist() == [16384.0] * 64
    assert total.item() == MIB


@dataclass
class Kernels:
    """Matrix products that take a known time an operation and note what they multiply."""

    seconds_per_operation: float
    budgets: list[float] = field(default_factory=list)
    multiplied: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    fails_up_to: int = 0
    calls: int = 1

    def multiply(self, left: torch.Tensor, right: torch.Tensor) -> None:
        if left.shape[0] <= self.fails_up_to:
            raise RuntimeError("so few rows")
        assert left.shape[1] == right.shape[0] == right.shape[1]
        self.multiplied.append((left, right))

    def timed(self, call: Callable[[], Any], device: torch.device, budget: float) -> list[float]:
        assert device == CPU
        self.budgets.append(budget)
        for _ in range(self.calls):
            call()
        left, right = self.multiplied[-1]
        operations = 2 * left.shape[0] * right.shape[0] * right.shape[1]
        seconds = operations * self.seconds_per_operation
        return [seconds / 8, seconds, seconds * 8]

    def rates(self, name: str, monkeypatch: pytest.MonkeyPatch, pool: int) -> list[GemmRate]:
        monkeypatch.setattr(module, "_seconds_per_call", self.timed)
        monkeypatch.setattr(torch, "_int_mm" if name == "int8" else "mm", self.multiply)
        return module._gemm_rates(name, CPU, pool)


# At 0.15 s / 2**26 an operation these times are exact: 512 rows of 256 x 256 take 0.15 s, and so
# do 64 of 512 x 512 half of that.
EXACT = 0.15 / 2**26


@pytest.mark.parametrize(
    ("seconds", "products"),
    [
        (1e-12, [(1, 2048), (8, 2048), (64, 2048), (512, 2048)]),
        (1e-9, [(1, 2048), (8, 2048), (64, 512), (512, 256)]),
        (1e-8, [(1, 1024), (8, 512), (64, 256)]),
        (EXACT, [(1, 2048), (8, 1024), (64, 512), (512, 256)]),
        (EXACT * 1.01, [(1, 2048), (8, 1024), (64, 256)]),
        (1e-5, [(1, 256)]),
    ],
)
def test_products_shrink_until_they_fit_the_time(
    seconds: float, products: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = Kernels(seconds)
    rates = kernels.rates("fp32", monkeypatch, 16 * MIB)
    assert [(rate.m, rate.k) for rate in rates] == products
    for rate in rates:
        assert (rate.format, rate.n) == ("fp32", rate.k)
        assert rate.teraflops == pytest.approx(1e-12 / seconds)
    # Each is preceded by a probe that takes three calls.
    assert kernels.budgets == [0.0, 0.15] * len(products)
    assert [left.shape for left, _ in kernels.multiplied[::2]] == [(m, 256) for m, _ in products]


def test_rows_that_a_library_cannot_multiply_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels(1e-12, fails_up_to=16)
    rates = kernels.rates("int8", monkeypatch, 16 * MIB)
    assert [rate.m for rate in rates] == [64, 512]
    assert Kernels(1e-12, fails_up_to=512).rates("bf16", monkeypatch, 16 * MIB) == []


@pytest.mark.parametrize(
    ("name", "dtype", "held"),
    [("fp32", torch.float32, 1), ("bf16", torch.bfloat16, 2), ("int8", torch.int8, 4)],
)
def test_weights_take_turns(
    name: str, dtype: torch.dtype, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call takes the next matrix of 2048 x 2048 that 16 MiB hold, the last row transposed."""
    kernels = Kernels(1e-12, calls=5)
    kernels.rates(name, monkeypatch, 16 * MIB)
    left = kernels.multiplied[-1][0]
    weights = [right for _, right in kernels.multiplied[-5:]]
    assert {right.dtype for right in (left, *weights)} == {dtype}
    assert all(right.shape == (2048, 2048) and right.stride() == (1, 2048) for right in weights)
    starts = [right.data_ptr() - weights[0].data_ptr() for right in weights]
    each = 2048 * 2048 * dtype.itemsize
    assert starts == [each * (number % held) for number in range(5)]
    # Varied, also in int8, and far from where fp16 overflows.
    values = left.float()
    assert 7 < values.std() < 9 and abs(values.mean()) < 0.5 and values.abs().max() < 60


@dataclass
class Asked:
    """What the parts of a measurement were asked for."""

    devices: list[object] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    inference: list[bool] = field(default_factory=list)
    steps: list[tuple[int, int, str]] = field(default_factory=list)
    speeds: dict[str, list[float]] = field(
        default_factory=lambda: {
            "fp32": [0.5, 2.0, 1.0], "bf16": [3.0], "fp16": [], "int8": [0.25, 0.125]
        }
    )  # fmt: skip

    def note(self, device: object, size: int) -> None:
        self.devices.append(device)
        self.bytes.append(size)
        self.threads.append(torch.get_num_threads())
        self.inference.append(torch.is_inference_mode_enabled())


@pytest.fixture
def asked(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()

    def bandwidth(device: object, size: int) -> tuple[str, list[float]]:
        asked.note(device, size)
        clock.now += 1.5
        return "sum", [5e9, 1e9, 2e9]

    def gemm(name: str, device: object, size: int) -> list[GemmRate]:
        asked.note(device, size)
        clock.now += 0.25
        return [GemmRate(name, 1, 4, 4, speed) for speed in asked.speeds[name]]

    monkeypatch.setattr(module, "_bandwidth", bandwidth)
    monkeypatch.setattr(module, "_gemm_rates", gemm)
    return asked


def measured(asked: Asked, cache: int | None, device: str = "cpu", threads: int = 1) -> Measurement:
    return measure(threads, cache, device, lambda *step: asked.steps.append(step))


def test_a_measurement_sums_up_its_parts(asked: Asked) -> None:
    before = torch.get_num_threads()
    found = measured(asked, None, threads=before + 1)
    assert (found.device, found.threads, found.bandwidth_kernel) == ("cpu", before + 1, "sum")
    assert found.bandwidth_bytes_per_second == 2e9
    assert found.bandwidth_samples == [5e9, 1e9, 2e9]
    assert found.peak_teraflops == {"fp32": 2.0, "bf16": 3.0, "int8": 0.25}
    assert [rate.format for rate in found.gemm] == ["fp32"] * 3 + ["bf16"] + ["int8"] * 2
    assert found.seconds == 1.5 + 4 * 0.25
    assert asked.steps == [
        (0, 5, "memory bandwidth"),
        (1, 5, "fp32 matrix products"),
        (2, 5, "bf16 matrix products"),
        (3, 5, "fp16 matrix products"),
        (4, 5, "int8 matrix products"),
        (5, 5, "done"),
    ]
    assert asked.devices == [CPU] * 5 and asked.bytes == [found.buffer_bytes] * 5
    assert asked.threads == [before + 1] * 5 and asked.inference == [True] * 5
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("cache", "buffer"),
    [
        (None, 4 * 2**28),  # a cache that is not known is taken to be large
        (32_000_000, 2**28),
        (2**26, 2**28),
        (2**26 + 1, 2**28 + 2**24),  # whole matrices of 2048 x 2048 x 4 bytes
        (2**28, 2**30),
    ],
)
def test_a_buffer_is_four_caches_in_whole_matrices(
    cache: int | None, buffer: int, asked: Asked
) -> None:
    assert measured(asked, cache).buffer_bytes == buffer


def a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    capability: tuple[int, int],
    cache: int = 50 * MIB,
    free: int = 2**34,
) -> None:
    """What torch tells of a GPU that is not there; nothing computes on it."""
    told = {torch.device(device): SimpleNamespace(L2_cache_size=cache)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", told.__getitem__)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda where: told[where] and capability
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: told[where] and (free, 2**36))


@pytest.mark.parametrize(
    ("cache", "buffer"), [(50 * MIB, 2**30), (2**28, 2**30), (2**28 + 1, 2**30 + 2**28)]
)
def test_a_gpus_cache_is_asked_of_its_driver(
    cache: int, buffer: int, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_gpu(monkeypatch, "cuda:1", (8, 0), cache=cache)
    found = measured(asked, 2**40, "cuda:1")
    assert (found.device, found.buffer_bytes) == ("cuda:1", buffer)
    assert asked.devices == [torch.device("cuda:1")] * 5


@pytest.mark.parametrize(
    ("capability", "narrow"),
    [((8, 0), set()), ((8, 9), {"fp8"}), ((9, 0), {"fp8"}), ((10, 0), {"fp8", "fp4"}),
     ((12, 1), {"fp8", "fp4"})],
)  # fmt: skip
def test_a_gpu_is_asked_for_the_formats_of_its_generation(
    capability: tuple[int, int], narrow: set[str], asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_gpu(monkeypatch, "cuda", capability)
    asked.speeds |= {"fp8": [6.0, 7.0], "fp4": [12.0]}
    peaks = measured(asked, None, "cuda").peak_teraflops
    assert set(peaks) == {"fp32", "bf16", "int8"} | narrow
    assert peaks.get("fp8", 7.0) == 7.0 and peaks.get("fp4", 12.0) == 12.0


@pytest.mark.parametrize(
    ("free", "cache", "buffer"),
    [
        (2**31, 50 * MIB, 2**30),
        (2**31 - 1, 50 * MIB, 3 * 2**28),  # a slice of 5 GB of which others hold the most
        (2**29, 50 * MIB, 2**28),
        (2**29 - 1, 50 * MIB, None),
        (2**30 - 1, 65 * MIB, None),  # what fits would be read from the cache in part
    ],
)
def test_a_buffer_fits_what_is_free_on_a_gpu_or_is_refused(
    free: int, cache: int, buffer: int | None, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_gpu(monkeypatch, "cuda", (8, 0), cache=cache, free=free)
    if buffer is not None:
        assert measured(asked, None, "cuda").buffer_bytes == buffer
        return
    with pytest.raises(
        UsageError, match=r"takes (0\.5|1\.1) GB .* (0\.5|1\.1) GB are free: end what"
    ):
        measured(asked, None, "cuda")
    assert asked.steps == []


@pytest.mark.parametrize("before", ["highest", "high"])
def test_fp32_is_full_precision_whatever_a_container_sets(
    before: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to = [before]
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: set_to[-1])
    monkeypatch.setattr(torch, "set_float32_matmul_precision", set_to.append)
    monkeypatch.setattr(asked, "note", lambda *_: asked.devices.append(set_to[-1]))
    measured(asked, None)
    assert asked.devices == ["highest"] * 5 and set_to == [before, "highest", before]


@pytest.mark.parametrize("name", ["fp8", "fp4"])
@pytest.mark.parametrize("m", [1, 4096])
def test_operands_of_narrow_floats_pass_torchs_checks(name: str, m: int) -> None:
    """Of types, layouts and scales; tensors without memory are held against those of CUDA."""
    product = products_module.products(name, torch.device("meta"), 16 * MIB)
    for side in (256, 2048):
        result = product(m, side)()
        assert isinstance(result, torch.Tensor)
        assert (result.shape, result.dtype) == ((m, side), torch.bfloat16)


@pytest.mark.parametrize(("name", "held"), [("fp8", 4), ("fp4", 8)])
def test_narrow_weights_take_turns(name: str, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[torch.Tensor, torch.Tensor, dict[str, Any]]] = []
    monkeypatch.setattr(torch, "_scaled_mm", lambda *two, **rest: given.append((*two, rest)))
    product = products_module.products(name, CPU, 16 * MIB)(64, 2048)
    for _ in range(held + 1):
        product()
    starts = [right.data_ptr() - given[0][1].data_ptr() for _, right, _ in given]
    each = 16 * MIB // held
    assert starts == [each * number for number in range(held)] + [0]
    numbers = 2 if name == "fp4" else 1
    left, right, scales = given[0]
    assert left.shape == (64, 2048 // numbers) and right.shape == (2048 // numbers, 2048)
    assert {float(scale.float().max()) for scale in (scales["scale_a"], scales["scale_b"])} == {1.0}
    assert len(left.view(torch.uint8).unique()) > 100, "varied"


def test_a_gpu_copies_half_its_buffer_onto_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read once and written once, the bytes moved are the buffer's; nothing else is allocated."""
    made: list[torch.Tensor] = []
    ones = torch.ones

    def on_the_cpu(size: int, device: torch.device) -> torch.Tensor:
        assert device == torch.device("cuda")
        made.append(ones(size))
        return made[-1]

    def timed(kernel: Callable[[], Any], device: torch.device, budget: float) -> list[float]:
        made[0][:512] = 2.0
        moved = kernel()
        return [1.0] if moved.data_ptr() == made[0][MIB // 2 :].data_ptr() else [4.0]

    monkeypatch.setattr(torch, "ones", on_the_cpu)
    monkeypatch.setattr(module, "_seconds_per_call", timed)
    assert module._bandwidth(torch.device("cuda"), 4 * MIB) == ("copy", [4.0 * MIB])
    assert made[0][MIB // 2 :][:512].mean() == 2.0
    assert len(made) == 2


def test_a_full_gpu_is_no_missing_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "mm", full)
    with pytest.raises(torch.OutOfMemoryError):
        module._gemm_rates("bf16", CPU, 16 * MIB)


@pytest.mark.parametrize(
    ("overrides", "multiplied"),
    [
        (("method=fp8",), "fp8"),
        (("method=nvfp4", "bits.activation={type: float, num_bits: 4}"), "fp4"),
    ],
)
def test_speed_is_held_against_the_peak_of_its_own_format(
    overrides: tuple[str, ...], multiplied: str, inputs: MakeInputs
) -> None:
    """Products of 4-bit floats against the peak of fp8 would tell half of what was used."""
    given = inputs("engine=vllm", "engine.dtype=bfloat16", "model=tiny", *overrides)
    subject = Checkpoint(Path(), "compressed-tensors", {}, "one", "bfloat16")
    assert arithmetic(given, subject, dense=False) == multiplied


def test_threads_are_restored_after_a_failure(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> list[GemmRate]:
        raise MemoryError

    before = torch.get_num_threads()
    monkeypatch.setattr(module, "_gemm_rates", failing)
    with pytest.raises(MemoryError):
        measured(asked, None, threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("device", "why"),
    [
        (
            "cuda",
            f"torch {torch.__version__} of {sys.executable} cannot use one: the driver is old",
        ),
        ("mps", "only cpu and cuda can be"),
        ("cpus", "only cpu and cuda can be"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_what_is_missing(
    device: str, why: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", raising(RuntimeError("the driver is old\nmore")))
    with pytest.raises(UsageError) as refused:
        measured(asked, None, device)
    assert str(refused.value) == f"cannot measure device {device}: {why}"
    assert asked.steps == []
