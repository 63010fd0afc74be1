"""A plan of a model so small that every figure of a row is worked out by hand."""

from dataclasses import replace
from typing import Any

import pytest

from runner.config.schema.hardware import Hardware, Price
from runner.config.schema.plan import Plan
from runner.planning.capacity import memory_bytes
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.planning.option import Feasibility, Range
from runner.planning.planner import Question, options
from runner.planning.quality import MeasuredQuality
from tests.unit.small_plan import DEVICE, SMALL, one, question

pytestmark = pytest.mark.unit


def spread(expected: float) -> tuple[float, float, float]:
    return expected / 1.25, expected, expected * 1.25


def in_order(found: Range | None) -> Any:
    assert found is not None
    return pytest.approx((found.low, found.expected, found.high))


def test_memory_of_a_row() -> None:
    """Half of 16384 bytes, less 2704 of weights and what 10 tokens need in a layer.

    That is 1.08 times 2 bytes of the input, the residual and 3·16 of the MLP.
    """
    alone, shared = options(question())
    assert (alone.bits_per_weight, alone.weight_bytes) == (16, 2704)
    assert (alone.kv_bytes_per_token, alone.kv_bytes_per_sequence) == (16, 128)
    assert alone.weight_bytes_per_device == 2704
    assert alone.kv_capacity_bytes == pytest.approx(8192 - 2704 - 1382.4)
    assert (alone.kv_capacity_tokens, alone.largest_batch) == (256, 32)  # 4105.6 / 16 and / 128
    assert (
        pytest.approx(18.125) == (13.52 + 0.2 * 1382.4) / 16
    )  # 0.5% of the weights and the spread
    assert in_order(alone.kv_tokens) == (256.6 - 11.213, 256.6, 256.6 + 10.349)
    assert alone.memory_bytes_per_device["activations"] == pytest.approx(1382.4)
    # Each of two devices has half of the matrices, all 40 norms and one of the two key-value heads.
    assert shared.weight_bytes_per_device == 1392
    assert shared.kv_capacity_bytes == pytest.approx(2 * (8192 - 1392 - 864))
    assert (shared.kv_capacity_tokens, shared.largest_batch) == (742, 92)  # 5936 / 8 and / 64


def test_times_of_a_row() -> None:
    option = one()
    memory = 2464 / 500 + 2 * 128 / 800
    assert spread(memory + 0.1) == in_order(option.decode_seconds)
    assert option.bound_decode_seconds == pytest.approx((2464 + 256) / 1000)
    assert (option.batch, option.arithmetic, option.limited_by) == (2, "bf16", "memory")
    assert option.communication_seconds == 0
    # 7360 operations of a prompt of 3 take 2.9 s, less than reading the weights.
    assert spread(2464 / 500 + 0.1) == in_order(option.prefill_seconds)
    rate = option.tokens_per_second
    assert in_order(rate) == (2 / 1.25 / 5.348, 2 / 5.348, 2 * 1.25 / 5.348)
    # A sequence adds 128/800 s of reading and 2976/2500 s of arithmetic.
    assert option.crossover_batch == pytest.approx(4.928 / (1.1904 - 0.16))
    assert (option.efficiency_source, option.price_per_hour) == ("made up", 1.5)
    assert (option.verdict, option.reason) == (Feasibility.meets, "")


def test_times_of_a_row_over_two_devices() -> None:
    """Two all-reduces a layer, each of 2·1/2·2·8·2 bytes, after 3·2·3.5 us over PCIe."""
    _, option = options(question())
    communication = 4 * (32 / 1000 + 2.1e-5)
    assert option.communication_seconds == pytest.approx(communication)
    assert option.decode_seconds is not None
    assert option.decode_seconds.expected == pytest.approx(
        1232 / 500 + 2 * 64 / 800 + communication + 0.1
    )
    assert option.decode_seconds.high == pytest.approx(
        1.25 * (1232 / 500 + 2 * 64 / 800 + 0.1) + 4 * (32 / 1000 + 3.0e-5)
    )


def test_a_long_prompt_is_limited_by_arithmetic() -> None:
    option = one(prompt_tokens=7)
    # 2304 a token, the head's 160 once, and 32·7·2·7/2 of attention.
    assert option.prefill_seconds is not None
    assert option.prefill_seconds.expected == pytest.approx((2304 * 7 + 160 + 1568) / 2500 + 0.1)


def test_service_and_cost_of_a_row() -> None:
    """Ten tokens a second on average, twice that at the peak."""
    option = one()
    assert option.served_batch == 4
    # A request's prefill makes 5 tokens; a step of 4 takes 4.928 + 512/800 + 0.1.
    per_token = 5.028 / 5 + 5.668 / 4
    assert option.served_tokens_per_second == pytest.approx(1 / per_token)
    assert option.cost_per_million_tokens == pytest.approx(1.5 / 3600 * 1e6 * per_token)
    assert (option.replicas, option.devices_needed) == (49, 49)  # 20 x 2.4226 s
    assert option.monthly_cost == 49 * 1.5 * 730
    assert option.cost_per_million_tokens_at_traffic == pytest.approx(53655 / 26.28)
    _, shared = options(question())
    assert shared.replicas is not None and shared.devices_needed == 2 * shared.replicas
    assert shared.monthly_cost == shared.devices_needed * 1.5 * 730
    assert shared.served_tokens_per_second is not None
    assert shared.cost_per_million_tokens == pytest.approx(
        2 * 1.5 / 3600 * 1e6 / shared.served_tokens_per_second
    )


def test_without_traffic_or_price_nothing_is_said_of_them() -> None:
    quiet = one(tokens_per_day=None)
    assert quiet.cost_per_million_tokens is not None
    assert quiet.replicas is quiet.devices_needed is quiet.monthly_cost is None
    free = one(device=replace(DEVICE, price=Price()))
    assert free.cost_per_million_tokens is free.monthly_cost is None
    assert free.cost_per_million_tokens_at_traffic is None
    assert free.devices_needed == 49
    assert one(tokens_per_day=1.0).replicas == 1


def test_the_largest_batch_counts_where_it_is_less_than_the_engines() -> None:
    assert one(max_batch_size=1000).served_batch == 32
    assert one(max_batch_size=1).served_batch == 2  # what is asked for at least
    assert one(prompt_tokens=8, tokens_per_day=None).served_tokens_per_second == pytest.approx(
        1 / (one(prompt_tokens=8).prefill_seconds.expected + 5.668 / 4)  # type: ignore[union-attr]
    )


def test_batches_stop_at_the_objective() -> None:
    """3 sequences take 5.508 s a step, 4 take 5.668, 2 take 5.348."""
    three = one(concurrency=3).decode_seconds
    assert three is not None and three.expected == pytest.approx(5.508)
    served = {
        objective: one(latency_seconds=objective).served_batch
        for objective in (5.35, 5.5, three.expected, 5.6, 5.7)
    }
    assert list(served.values()) == [2, 2, 3, 3, 4]
    exactly = one(concurrency=3, latency_seconds=three.expected)
    assert exactly.verdict is Feasibility.meets


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (5.0, "too slow by 1.07x; may still pass, measure it"),
        (4.2, "too slow by 1.27x"),  # low is 4.278
    ],
)
def test_what_is_too_slow(objective: float, reason: str) -> None:
    option = one(latency_seconds=objective)
    assert (option.verdict, option.reason) == (Feasibility.too_slow, reason)
    assert option.served_batch == 2


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"concurrency": 32}, None),
        (
            {"concurrency": 33},
            "does not fit: room for 256 tokens of KV cache, but 33 x 8 are needed",
        ),
        (
            {"memory_utilization": 0.2},
            "does not fit: 0.0 GB of weights per device, 0.0 GB usable",
        ),
        ({"context_length": 257}, "does not fit: room for 256 tokens of KV cache, but 2 x 257"),
    ],
)
def test_what_does_not_fit(asked: dict[str, Any], reason: str | None) -> None:
    option = one(**asked)
    assert (option.verdict is Feasibility.does_not_fit) is (reason is not None)
    assert option.reason.startswith(reason or "")
    assert (option.decode_seconds is None) is (reason is not None)


def test_what_does_not_fit_has_no_room() -> None:
    option = one(memory_utilization=0.2)
    assert option.kv_capacity_bytes == pytest.approx(0.2 * 16384 - 2704 - 1382.4)
    assert (option.kv_capacity_tokens, option.largest_batch) == (0, 0)


def test_sizes_of_weights_are_told_in_gigabytes() -> None:
    big = replace(SMALL, hidden=8192, intermediate=28672, heads=64, head_dim=128, vocab=128256)
    shape, fmt = Shape(big), find_format("bf16")
    device = replace(DEVICE, visible_memory_gibibytes=8.0)
    plan = Plan(tensor_parallel=[2], memory_utilization=0.25)
    (option,) = options(Question(shape, (fmt,), (device,), plan))
    per_device = shape.parameters * 2 / 2 / 1e9
    assert option.reason == (
        f"does not fit: {per_device:.1f} GB of weights, 0.3 GB of activations, 0.2 GB of "
        "communication, 0.2 GB of context per device, 2.1 GB usable"
    )
    assert 3 < per_device < 5


@pytest.mark.parametrize(
    ("bare", "unknown"),
    [
        (replace(DEVICE, visible_memory_gibibytes=None), "hardware.memory_gigabytes"),
        (replace(DEVICE, peak_teraflops={}), "hardware.peak_teraflops"),
        (replace(DEVICE, peak_teraflops={"fp4": 1.0}), "a rate for this recipe"),
        (
            Hardware("box", "cuda", memory_gigabytes=1, price=DEVICE.price),
            "hardware.memory_bandwidth_gigabytes_per_second and hardware.peak_teraflops",
        ),
    ],
)
def test_a_device_without_limits_is_impossible(bare: Hardware, unknown: str) -> None:
    option = one(device=bare)
    assert (option.verdict, option.reason) == (
        Feasibility.impossible,
        f"of box {unknown} is not known",
    )
    assert option.weight_bytes == 2704 and option.price_per_hour == 1.5


def test_what_an_engine_holds_counts_for_memory_and_time() -> None:
    asked = replace(question("w8a8"), held=lambda *_: find_format("fp32"))
    option = next(options(asked))
    assert option.recipe == "w8a8"
    assert option.bits_per_weight == pytest.approx(8 + 16 * 128 / 1152)
    assert option.weight_bytes == 1352 * 4
    assert option.decode_seconds is not None
    assert option.decode_seconds.expected == pytest.approx(2 * 2464 / 500 + 256 / 800 + 0.1)


def test_quality_of_a_row_is_what_was_measured_of_its_format() -> None:
    measured = {"w8a8": MeasuredQuality("mine", 1.2, 1.06, 1.3)}
    option = next(options(replace(question("w8a8"), measured=measured)))
    said = "measured here: perplexity x1.200 [1.060, 1.300] (mine)"
    assert (option.quality, option.quality_source) == (said, "measured")
    assert (option.verdict, option.reason) == (Feasibility.quality_risk, f"quality risk; {said}")
    assert one("w8a8", min_recovery_percent=99.0).quality_source == "published"
    assert one("w8a8", min_recovery_percent=100.3).verdict is Feasibility.meets  # the 8B's least
    assert one("w8a8", min_recovery_percent=100.4).verdict is Feasibility.quality_risk


@pytest.mark.parametrize(
    ("visible", "nominal", "size"),
    [(2.0, 10.0, 2 * 2**30), (None, 10.0, 9.2 * 2**30), (None, None, None)],
)
def test_memory_that_programs_see(
    visible: float | None, nominal: float | None, size: float | None
) -> None:
    device = Hardware(visible_memory_gibibytes=visible, memory_gigabytes=nominal)
    assert memory_bytes(device) == (None if size is None else pytest.approx(size))
