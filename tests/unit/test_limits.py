"""Which limits of a device a format is held against."""

from dataclasses import replace

import pytest

from runner.config.schema.hardware import Hardware
from runner.planning.formats import Format, find_format
from runner.planning.roofline import PeakRates, arithmetic_used, limits_of
from tests.unit.small_plan import DEVICE

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("asked", "native", "peaks", "used"),
    [
        ("fp8", ["fp8"], {"fp8": 2, "bf16": 1}, "fp8"),
        ("fp8", ["fp8"], {"bf16": 1}, "bf16"),
        ("fp8", [], {"fp8": 2, "fp16": 1}, "fp16"),
        ("bf16", [], {"fp16": 1, "fp32": 1}, "fp16"),
        ("fp16", [], {"fp16": 1, "bf16": 1}, "bf16"),
        ("fp32", [], {"fp32": 1, "bf16": 2}, "fp32"),
        ("fp32", [], {"bf16": 2}, "bf16"),
        ("bf16", [], {"fp32": 1}, "fp32"),
        ("int8", [], {"int8": 1}, None),
    ],
)
def test_arithmetic_falls_back(
    asked: str, native: list[str], peaks: dict[str, float], used: str | None
) -> None:
    device = replace(DEVICE, native_formats=native, peak_teraflops=peaks)
    assert arithmetic_used(Format("x", 8, asked), device) == used


def test_limits_are_in_bytes_and_operations() -> None:
    limits = limits_of(find_format("bf16"), DEVICE)
    assert limits == PeakRates(pytest.approx(1000), pytest.approx(10_000), "bf16")


@pytest.mark.parametrize(
    ("label", "device"),
    [
        ("bf16", replace(DEVICE, memory_bandwidth_gigabytes_per_second=None)),
        ("bf16", replace(DEVICE, peak_teraflops={"fp4": 1.0})),
    ],
)
def test_of_what_is_not_known_there_are_no_limits(label: str, device: Hardware) -> None:
    assert limits_of(find_format(label), device) is None
