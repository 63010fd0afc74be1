"""Which limits of a device a format is held against, and what part of them is reached."""

from dataclasses import replace

import pytest

from runner.config.schema.hardware import Interconnect
from runner.planning.efficiency import prior
from runner.planning.formats import Format, find_format
from runner.planning.model_shape import Shape
from runner.planning.roofline import PeakRates, Roofline, arithmetic_used, limits_of
from tests.unit.small_plan import DEVICE, HALF, SMALL

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


@pytest.mark.parametrize(
    ("link", "speed", "through_host"),
    [
        (Interconnect("PCIe 4.0 x16", 64.0), 32e9, True),
        (Interconnect("NVLink 4", 900.0), 450e9, False),
        (Interconnect(), None, False),
    ],
)
def test_limits_are_in_bytes_and_operations(
    link: Interconnect, speed: float | None, through_host: bool
) -> None:
    limits = limits_of(find_format("bf16"), replace(DEVICE, interconnect=link))
    assert limits == PeakRates(
        pytest.approx(1000), pytest.approx(10_000), "bf16", speed, through_host
    )


def test_without_a_known_link_only_latency_counts() -> None:
    limits = PeakRates(1.0, 1.0, "bf16", None)
    roofline = Roofline(Shape(SMALL), find_format("bf16"), limits, HALF, devices=4)
    for case, each in (("low", 2e-6), ("expected", 3.5e-6), ("high", 5e-6)):
        assert roofline.all_reduce_seconds(100, case) == pytest.approx(2 * 2 * 4 * each)


@pytest.mark.parametrize(
    ("label", "capability", "bandwidth"),
    [
        ("bf16", "9.0", 0.71),
        ("fp32", None, 0.71),
        ("q8_0", "9.0", 0.66),
        ("w7a16-per_channel", "9.0", 0.66),
        ("w6a16-per_channel", "8.9", 0.54),
        ("q6_k", "8.0", 0.54),
        ("w4a16-g128", "9.0", 0.40),
        ("w4a16-g128", "10.0", 0.40),
        ("w4a16-g128", "8.9", 0.54),
        ("w4a16-g128", None, 0.54),
        ("w4a16-g128", "gfx942", 0.54),
        ("llm_int8", "9.0", 0.07),
    ],
)
def test_published_efficiency(label: str, capability: str | None, bandwidth: float) -> None:
    found = prior(find_format(label), replace(DEVICE, compute_capability=capability))
    assert (found.bandwidth, found.compute, found.spread) == (bandwidth, 0.5, 0.25)
    assert (found.cache_bandwidth, found.overhead_seconds, found.overlaps) == (0.71, 0.0, True)
    assert ("RTX 3090" if label == "llm_int8" else "arXiv 2411.02355") in found.source
