"""A real measurement of the machine at hand."""

import pytest

from runner.errors import UsageError
from runner.planning.hardware.detect import detect
from runner.planning.hardware.measure import Measurement, measure
from runner.util.serialise import from_json, to_json

pytestmark = pytest.mark.integration


def test_a_measurement_is_plausible_and_crosses_as_json() -> None:
    import torch

    machine = detect()
    threads_before = torch.get_num_threads()
    steps: list[tuple[int, int, str]] = []
    measured = measure(
        machine.usable_cores,
        machine.last_level_cache_bytes,
        "cpu",
        lambda done, total, what: steps.append((done, total, what)),
    )
    assert 0 < measured.bandwidth_bytes_per_second < 1000e9
    assert len(measured.bandwidth_samples) >= 3
    assert measured.buffer_bytes >= 4 * (machine.last_level_cache_bytes or 1)
    assert {"fp32", "bf16"} <= set(measured.peak_teraflops)
    rates = [rate.teraflops for rate in measured.gemm if rate.format == "fp32"]
    assert measured.peak_teraflops["fp32"] == max(rates) > 0
    assert {rate.m for rate in measured.gemm if rate.format == "fp32"} == {1, 8, 64, 512}
    assert torch.get_num_threads() == threads_before
    assert [done for done, _, _ in steps] == list(range(steps[0][1] + 1))
    assert from_json(Measurement, to_json(measured)) == measured


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="warp"):
        measure(1, None, "warp:0", lambda *_: None)
