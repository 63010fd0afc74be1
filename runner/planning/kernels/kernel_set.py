"""The rows of the tables that predict a recipe on a device, as rates."""

import contextlib
import functools
from collections.abc import Sequence

from runner.config.schema.hardware import Hardware, Interconnect
from runner.planning.formats import Format
from runner.planning.kernels.rates import AttentionRates, ExpertRates, MatmulRates, ReduceRates
from runner.planning.kernels.table import Found, find_row
from runner.planning.roofline import arithmetic_used

PLAIN = "w16a16"
_NEXT = {
    "w8a8_fp8": ("w8a8_fp8_block", "w8a8_int8"),
    "w8a8_fp8_block": ("w8a8_fp8", "w8a8_int8"),
    "w8a8_int8": ("w8a8_fp8", "w8a16"),
    "w4a16": ("w4a16_mxfp4", "w8a16"),
    "w4a16_mxfp4": ("w4a16", "w8a16"),
    "w4a8_mxfp4": ("w4a4", "w8a8_fp8_block"),
    "w4a4": ("w8a8_fp8_block", "w8a8_fp8"),
}
"""Kernels whose shares of a device's limits are the likeliest, where one is in no table."""
_EIGHT_BITS = 6.6
_MX_GROUP = 32
_ANY_LATENCY_SECONDS = 8e-6
_ANY_LARGE_LATENCY_SECONDS = 30e-6
_ANY_LARGE_SHARE = 0.45
_ANY_SMALL_SHARE = 0.1


_OF_ARITHMETIC = {"fp8": "w8a8_fp8", "int8": "w8a8_int8", "fp4": "w4a4"}
_OF_BLOCKS = {"fp8": "w8a8_fp8_block"}
"""Where weights have a scale for each square block."""


@functools.lru_cache(maxsize=4096)
def _kernel(fmt: Format, arithmetic: str | None, has_fp4: bool) -> str:
    if fmt.weight_bits >= 16:
        return PLAIN
    if fmt.block and arithmetic in _OF_BLOCKS:
        return _OF_BLOCKS[arithmetic]
    if arithmetic in _OF_ARITHMETIC:
        return _OF_ARITHMETIC[arithmetic]
    if fmt.weight_bits > _EIGHT_BITS:
        return "w8a16"
    if fmt.has_float_blocks and fmt.group == _MX_GROUP:
        # Engines round activations to 8 bits where units for narrow floats make that quicker.
        return "w4a8_mxfp4" if has_fp4 else "w4a16_mxfp4"
    return "w4a16"


def kernel_of(fmt: Format, device: Hardware) -> str:
    """Name of the kernels that multiply by weights of a format: bits of weights, of activations."""
    return _kernel(fmt, arithmetic_used(fmt, device), "fp4" in device.native_formats)


def _of_kernels(table: str, device: Hardware, engines: Sequence[str], fmt: Format) -> Found:
    """The row of a format's kernels, of those that come next, or of 16 bits."""
    name = kernel_of(fmt, device)
    for names in ((name, *_NEXT.get(name, ())), (PLAIN,)):
        with contextlib.suppress(LookupError):
            return find_row(table, device, engines, of=("kernel", names))
    raise LookupError(f"table {table} has no row for everything else")


def matmul_rates(device: Hardware, engines: Sequence[str], fmt: Format) -> MatmulRates:
    """Of products with weights of a format."""
    found = _of_kernels("gemm", device, engines, fmt)
    share = fmt.bandwidth_share or found.number("bandwidth_share")
    return MatmulRates(
        floor_seconds=found.number("floor_microseconds") / 1e6,
        bytes_per_second=share * _bandwidth(device),
        operations_per_second=found.number("peak_share") * _peak(device, found, fmt),
        tiles_half=found.number("tiles_half"),
        inner_half=found.number("inner_half"),
        activation_bytes=found.number("activation_bytes"),
    )


def expert_rates(device: Hardware, engines: Sequence[str], fmt: Format) -> ExpertRates:
    """Of routed experts whose weights are of a format."""
    found = _of_kernels("experts", device, engines, fmt)
    return ExpertRates(
        floor_seconds=found.number("floor_microseconds") / 1e6,
        bytes_per_second=found.number("bandwidth_share") * _bandwidth(device),
        operations_per_second=found.number("peak_share") * _peak(device, found, fmt),
        rows_half=found.number("rows_half"),
        width_half=found.number("width_half"),
        distinct_tokens_share=found.number("distinct_tokens_share"),
        activation_bytes=found.number("activation_bytes"),
    )


def attention_rates(
    device: Hardware, engines: Sequence[str], kv_bits: float, *, latent: bool
) -> AttentionRates:
    """Of attention over a cache of numbers of so many bits."""
    widths = ("8", "16") if kv_bits < 16 else ("16",)
    decode = find_row("decode_attention", device, engines, of=("kv_bits", widths))
    prefill = find_row("prefill_attention", device, engines, of=("kv_bits", widths))
    half = prefill.number("sequence_half")
    plain = device.peak_teraflops.get("bf16") or device.peak_teraflops.get("fp16") or 1.0
    compute = None
    bandwidth = decode.number("bandwidth_share")
    peak = prefill.number("peak_share")
    least = decode.number("nanoseconds_per_sequence_and_head") / 1e9
    if latent:
        phases = ("decode", "prefill")
        of_decode, of_prefill = (
            find_row("latent_attention", device, engines, of=("phase", (phase,)))
            for phase in phases
        )
        bandwidth, peak = of_decode.number("bandwidth_share"), of_prefill.number("peak_share")
        half = of_prefill.number("sequence_half")
        compute = of_decode.number("peak_share") * plain * 1e12
        least = of_decode.number("nanoseconds_per_sequence") / 1e9
    return AttentionRates(
        floor_seconds=decode.number("floor_microseconds") / 1e6,
        bytes_per_second=bandwidth * _bandwidth(device),
        seconds_per_head=least,
        prefill_operations_per_second=peak * plain * 1e12,
        sequence_half=half,
        decode_operations_per_second=compute,
    )


def reduce_rates(device: Hardware, engines: Sequence[str], devices: int) -> ReduceRates | None:
    """Of sums over so many devices; ``None`` for one alone, and where their link is not known."""
    link = device.interconnect.among(devices)
    if devices == 1 or link.gigabytes_per_second is None:
        return None
    sizes = (str(devices), "8", "4", "2")
    try:
        if link.through_host:
            table = "all_reduce_pcie"
            return _reduce(
                find_row(table, device, engines, of=("devices", sizes), generation=link.name)
            )
        found = find_row("all_reduce", device, engines, of=("devices", sizes))
    except LookupError:
        return _by_link(link, devices)
    return _reduce(found) if found.is_exact else _by_link(link, devices)


def _reduce(found: Found) -> ReduceRates:
    return ReduceRates(
        found.number("small_latency_microseconds") / 1e6,
        found.number("small_gigabytes_per_second") * 1e9,
        found.number("large_latency_microseconds") / 1e6,
        found.number("large_gigabytes_per_second") * 1e9,
    )


def _by_link(link: Interconnect, devices: int) -> ReduceRates:
    """Where nobody has measured it: shares of the link that NVLink's generations have alike."""
    one_way = (link.gigabytes_per_second or 0.0) * 1e9 / 2
    return ReduceRates(
        _ANY_LATENCY_SECONDS,
        _ANY_SMALL_SHARE * one_way,
        _ANY_LARGE_LATENCY_SECONDS,
        _ANY_LARGE_SHARE * one_way,
    )


def _bandwidth(device: Hardware) -> float:
    return (device.memory_bandwidth_gigabytes_per_second or 0.0) * 1e9


def _peak(device: Hardware, found: Found, fmt: Format) -> float:
    """The rate that a row's share is of; of what a device has no units for, its 16 bits'."""
    own = found.row["arithmetic"]
    used = arithmetic_used(fmt, device) or own
    for name in (own, used, "bf16", "fp16", "fp32"):
        if name in device.peak_teraflops and (name in device.native_formats or name == used):
            return device.peak_teraflops[name] * 1e12
    return max(device.peak_teraflops.values(), default=0.0) * 1e12
