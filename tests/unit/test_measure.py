"""What a measurement makes of times: a clock and kernels whose speed is known, no real timing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runner.errors import UsageError
from runner.planning.hardware import measure as module
from runner.planning.hardware.measure import GemmRate, Measurement, measure

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

    def note(self, device: object, size: int) -> None:
        self.devices.append(device)
        self.bytes.append(size)
        self.threads.append(torch.get_num_threads())
        self.inference.append(torch.is_inference_mode_enabled())


@pytest.fixture
def asked(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    speeds = {"fp32": [0.5, 2.0, 1.0], "bf16": [3.0], "fp16": [], "int8": [0.25, 0.125]}

    def bandwidth(device: object, size: int) -> tuple[str, list[float]]:
        asked.note(device, size)
        clock.now += 1.5
        return "sum", [5e9, 1e9, 2e9]

    def gemm(name: str, device: object, size: int) -> list[GemmRate]:
        asked.note(device, size)
        clock.now += 0.25
        return [GemmRate(name, 1, 4, 4, speed) for speed in speeds[name]]

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


@pytest.mark.parametrize(
    ("cache", "buffer"), [(50 * MIB, 2**30), (2**28, 2**30), (2**28 + 1, 2**30 + 2**28)]
)
def test_a_gpus_cache_is_asked_of_its_driver(
    cache: int, buffer: int, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    properties = {"cuda:1": SimpleNamespace(L2_cache_size=cache)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)
    found = measured(asked, 2**40, "cuda:1")
    assert (found.device, found.buffer_bytes) == ("cuda:1", buffer)
    assert asked.devices == [torch.device("cuda:1")] * 5


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


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "cpus"])
def test_a_device_that_is_not_there_is_refused(
    device: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError) as refused:
        measured(asked, None, device)
    assert str(refused.value) == (
        f"Cannot measure device {device!r} here: use 'cpu', or 'cuda' with a GPU."
    )
    assert asked.steps == []
