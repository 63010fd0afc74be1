"""Measures sustained bandwidth and matrix rates, with torch in a worker."""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.planning.hardware.products import formats_of, products

if TYPE_CHECKING:
    import torch

LAST_LEVEL_CACHES = 4  # that a buffer holds at least, so that next to nothing is read from them
ASSUMED_CACHE_BYTES = 2**28  # where unknown: more than all but the largest servers have
SMALLEST_BUFFER_BYTES = {"cpu": 2**28, "cuda": 2**30}
ROWS_OF_GEMM = {"cpu": (1, 8, 64, 512), "cuda": (1, 8, 64, 512, 4096)}
"""M: one token, small batches, a prefill. A GPU's peak takes more rows than a CPU's."""
SIDE_OF_GEMM = {"cpu": 2048, "cuda": 8192}
"""K = N, halved for a format so slow that its calls would not fit the time."""
PROBE_SIDE = 256
SECONDS_PER_KERNEL = 0.3
SECONDS_PER_GEMM = 0.15  # for one format at one M, unless three calls take longer
SHARE_OF_FREE_MEMORY = 0.5  # of a GPU that the buffer may take; results need room beside it


@dataclass(frozen=True)
class GemmRate:
    """Sustained rate of an [m, k] by [k, n] product, 2·m·k·n operations, median over calls."""

    format: str
    m: int
    k: int
    n: int
    teraflops: float


@dataclass(frozen=True)
class Measurement:
    """Measured limits of one device. Rates are medians; 1 teraflop is 1e12 operations a second."""

    device: str
    threads: int  # of the CPU
    bandwidth_bytes_per_second: float
    bandwidth_samples: list[float]  # of each pass of the fastest kernel, in order
    bandwidth_kernel: str
    buffer_bytes: int  # that each pass goes over
    gemm: list[GemmRate]
    """Weights come from memory, not from a cache, as they do when a model's layers take turns."""
    peak_teraflops: dict[str, float]
    """Best rate over M by format (fp32, bf16, fp16, int8; on GPUs that have units for them fp8 and
    fp4, sums kept as the kernels that serve models keep them). A format without a kernel is absent.
    fp32 is that of full precision, without TF32."""
    seconds: float  # that the whole measurement took


def measure(
    threads: int,
    last_level_cache_bytes: int | None,
    device: str,
    progress: Callable[[int, int, str], None],
) -> Measurement:
    """Measure bandwidth, then matrix products format by format; takes 3 to 10 seconds.

    Bandwidth counts bytes read: each of a few kernels that read a whole fp32 buffer and write next
    to nothing is repeated, and the one with the highest median stands for the machine. On a GPU a
    copy within the device is one more, of which bytes read and written both count.

    Args:
        threads: CPU threads torch may use. The process's own setting is restored.
        last_level_cache_bytes: Of the CPU, as ``detect`` finds it; a GPU's is asked of its driver.
        device: ``cpu``, ``cuda`` (the first GPU in use) or ``cuda:N``.
        progress: Called with steps done, steps in all, and what comes next.

    Raises:
        UsageError: The device is of another kind or absent, or too little of its memory is free.
    """
    import torch

    kind = device.partition(":")[0]
    if kind not in SIDE_OF_GEMM:
        raise UsageError(f"cannot measure device {device}: only cpu and cuda can be")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"cannot measure device {device}: {_what_cuda_lacks()}")
    began = time.perf_counter()
    where = torch.device(device)
    buffer_bytes = _buffer_bytes(where, last_level_cache_bytes)
    formats = formats_of(where)
    threads_before, precision_before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")  # some containers switch TF32 on
    steps = 1 + len(formats)
    try:
        with torch.inference_mode():
            progress(0, steps, "memory bandwidth")
            kernel, samples = _bandwidth(where, buffer_bytes)
            gemm: list[GemmRate] = []
            for done, name in enumerate(formats, start=1):
                progress(done, steps, f"{name} matrix products")
                gemm += _gemm_rates(name, where, buffer_bytes)
            progress(steps, steps, "done")
    finally:
        torch.set_num_threads(threads_before)
        torch.set_float32_matmul_precision(precision_before)
    by_format = {name: [rate.teraflops for rate in gemm if rate.format == name] for name in formats}
    return Measurement(
        device=device,
        threads=threads,
        bandwidth_bytes_per_second=statistics.median(samples),
        bandwidth_samples=samples,
        bandwidth_kernel=kernel,
        buffer_bytes=buffer_bytes,
        gemm=gemm,
        peak_teraflops={name: max(rates) for name, rates in by_format.items() if rates},
        seconds=time.perf_counter() - began,
    )


def _buffer_bytes(device: "torch.device", last_level_cache_bytes: int | None) -> int:
    """Size of the buffer: whole fp32 matrices of the largest product, which smaller ones divide."""
    import torch

    cache = last_level_cache_bytes or ASSUMED_CACHE_BYTES
    if device.type == "cuda":
        cache = torch.cuda.get_device_properties(device).L2_cache_size
    unit = 4 * SIDE_OF_GEMM[device.type] ** 2

    def whole(size: float) -> int:
        return -(-int(size) // unit) * unit

    wanted = whole(max(LAST_LEVEL_CACHES * cache, SMALLEST_BUFFER_BYTES[device.type]))
    if device.type != "cuda":
        return wanted
    free, _ = torch.cuda.mem_get_info(device)
    room, least = int(SHARE_OF_FREE_MEMORY * free) // unit * unit, whole(LAST_LEVEL_CACHES * cache)
    if room < max(least, unit):
        needed = max(least, unit) / SHARE_OF_FREE_MEMORY
        raise UsageError(
            f"Measuring the GPU takes {needed / 1e9:.1f} GB of its memory, of which "
            f"{free / 1e9:.1f} GB are free: end what else uses it (nvidia-smi lists it), or try "
            "engine.device=cpu."
        )
    return min(wanted, room)


def _what_cuda_lacks() -> str:
    """Why torch cannot compute on a GPU here, as it tells itself."""
    import torch

    why = "it finds no GPU"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:  # torch asserts that it was built for CUDA
        why = str(error).splitlines()[0]
    return f"torch {torch.__version__} of {sys.executable} cannot use one: {why}"


def _bandwidth(device: "torch.device", buffer_bytes: int) -> tuple[str, list[float]]:
    """The fastest kernel's name and its bytes per second, pass by pass."""
    import torch

    # Written, because memory never written is all one page of zeros, read from the cache.
    buffer = torch.ones(buffer_bytes // 4, device=device)
    matrix, vector = buffer.view(-1, 16384), torch.ones(16384, device=device)
    # An idle GPU's clock rises while the first of them runs; the others see it as it stays.
    kernels: dict[str, Callable[[], object]] = {
        "matrix_vector": lambda: torch.mv(matrix, vector),
        "sum": buffer.sum,
        "row_sums": lambda: matrix.sum(1),
    }
    if device.type == "cuda":
        source, target = buffer.chunk(2)
        kernels["copy"] = lambda: target.copy_(source)
    rates = {
        name: [buffer_bytes / s for s in _seconds_per_call(kernel, device, SECONDS_PER_KERNEL)]
        for name, kernel in kernels.items()
    }
    best = max(rates, key=lambda name: statistics.median(rates[name]))
    return best, rates[best]


def _gemm_rates(name: str, device: "torch.device", pool_bytes: int) -> list[GemmRate]:
    """Rates of one format at every M that fits the time, none where the library lacks the format.

    Each call takes the next of as many weight matrices as ``pool_bytes`` holds.
    """
    import torch

    product = products(name, device, pool_bytes)

    def seconds(m: int, side: int, budget: float) -> float:
        return statistics.median(_seconds_per_call(product(m, side), device, budget))

    rates: list[GemmRate] = []
    per_operation = 0.0  # seconds, from the last product
    for m in ROWS_OF_GEMM[device.type]:
        if 2 * m * PROBE_SIDE**2 * per_operation > SECONDS_PER_GEMM:
            break  # emulated so slowly that more rows would take seconds a call
        try:
            per_operation = seconds(m, PROBE_SIDE, 0.0) / (2 * m * PROBE_SIDE**2)
        except torch.OutOfMemoryError:
            raise  # which says nothing of the format
        except (RuntimeError, ValueError):  # no kernel for it, or for so few rows (int8 on CUDA)
            continue
        side = SIDE_OF_GEMM[device.type]
        while side > PROBE_SIDE and 2 * m * side**2 * per_operation > SECONDS_PER_GEMM / 2:
            side //= 2
        per_operation = seconds(m, side, SECONDS_PER_GEMM) / (2 * m * side**2)
        rates.append(GemmRate(name, m, side, side, 1e-12 / per_operation))
    return rates


def _seconds_per_call(
    call: Callable[[], object], device: "torch.device", budget: float
) -> list[float]:
    """Seconds of each of 3 to 50 calls, as many as fit the budget, after one to warm up."""
    import torch

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / calls

    seconds(1)
    together = 20 if device.type == "cuda" else 1  # one alone on a GPU would mostly time its launch
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < 3 or (len(samples) < 50 and time.perf_counter() - began < budget):
        samples.append(seconds(together))
    return samples
