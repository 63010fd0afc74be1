"""Times of operators by hand, how a model is launched, and which row of the tables is gone by."""

import functools
from dataclasses import replace

import pytest

from runner.config.schema.architecture import Architecture
from runner.config.schema.hardware import Hardware, Interconnect
from runner.errors import UsageError
from runner.planning.devices import device_names, read_device
from runner.planning.formats import find_format
from runner.planning.kernels.constants import NEUTRAL, EngineFamily, engine_family, family_of
from runner.planning.kernels.forward import Setting, forward
from runner.planning.kernels.kernel_set import (
    attention_rates,
    expert_rates,
    kernel_of,
    matmul_rates,
    reduce_rates,
)
from runner.planning.kernels.launches import launches, reductions
from runner.planning.kernels.operators import (
    Attention,
    Experts,
    Product,
    Reduce,
    least,
    slower_of,
)
from runner.planning.kernels.table import find_row, has_rows
from runner.planning.model_shape import Shape
from runner.planning.regimes import Kind, regimes, spread_regime
from runner.planning.timing import Subject, published
from tests.unit.small_plan import SMALL

pytestmark = pytest.mark.unit

SERVERS = ("vllm", "trtllm", "sglang")


@functools.cache
def described() -> list[Hardware]:
    """Every device of which a plan may be made."""
    every = map(read_device, device_names())
    return [device for device in every if not device.unknown_limits]


MIXTURE = replace(
    SMALL, experts=8, experts_per_token=2, expert_intermediate=4, dense_layers=1, shared_experts=1
)
LATENT = replace(
    SMALL, q_lora_rank=6, kv_lora_rank=6, rope_head_dim=2, value_head_dim=2, kv_heads=4
)


# Operators


def test_reading_and_computing_overlap_but_less_where_they_take_as_long() -> None:
    assert slower_of(3.0, 0.0) == slower_of(0.0, 3.0) == pytest.approx(3)
    assert slower_of(3.0, 4.0) == pytest.approx(91 ** (1 / 3))
    assert slower_of(1.0, 1.0) == pytest.approx(2 ** (1 / 3))
    assert slower_of(1.0, 100.0) == pytest.approx(100, rel=1e-6)
    assert (least(2.0, 3.0), least(3.0, 2.0)) == (2, 2)


def test_a_product_reads_its_weights_once_and_its_tokens_each() -> None:
    product = Product(2.0, 1.0, 0.5, 0.0, 0.0)
    assert (product.seconds(0), product.seconds(4)) == pytest.approx((2, 6))
    assert product.seconds(4, reading=1.5) == pytest.approx(4), "half as fast again"
    computing = Product(2.0, 0.0, 0.0, 1.0, 0.25)
    assert computing.seconds(4) == pytest.approx(4)
    assert computing.seconds(4, reading=9, computing=0.5) == pytest.approx(8)


def test_a_token_meets_its_own_experts_and_many_meet_all() -> None:
    experts = Experts(1.0, 8.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    assert experts.touched(1) == 2
    # Each of the other 6 is chosen by a second token with 2/8.
    assert experts.touched(2) == pytest.approx(2 + 6 / 4)
    assert experts.touched(3) == pytest.approx(2 + 6 * (1 - 0.75**2))
    assert experts.touched(1000) == pytest.approx(8)
    alike = replace(experts, distinct_tokens_share=0.5)
    assert alike.touched(3) == experts.touched(2), "two of three choose what the others have"


def test_experts_are_read_and_computed_once_they_are_chosen() -> None:
    reading = Experts(3.0, 8.0, 2.0, 1.0, 0.5, 0.1, 0.0, 0.0, 0.25)
    assert reading.seconds(1) == pytest.approx(3 * (0.25 + 2 * 0.5 + 0.1))
    assert reading.seconds(1, reading=2, floors=2) == pytest.approx(3 * (0.5 + 0.55))
    computing = Experts(3.0, 8.0, 2.0, 1.0, 0.0, 0.0, 0.5, 0.1, 0.25)
    assert computing.seconds(2) == pytest.approx(3 * (0.25 + 3.5 * 0.5 + 2 * 0.1))
    assert computing.seconds(2, computing=2) == pytest.approx(3 * (0.25 + 0.975))


def test_large_messages_go_another_way_than_small_ones() -> None:
    reduce = Reduce(2.0, 1.0, 1.0, 5.0, 0.5)
    assert reduce.seconds(2) == 2 * 3
    assert reduce.seconds(8) == 2 * (1 + 8) == 2 * (5 + 4)
    assert reduce.seconds(20) == 2 * 15


def test_attention_reads_each_sequence_and_takes_its_least_of_each() -> None:
    attention = Attention(9.0, 0.5, 0.0, 9.0)
    assert attention.decode_seconds(4) == pytest.approx(2)
    assert attention.decode_seconds(4, reading=2) == pytest.approx(1)
    assert replace(attention, read_sequence=0.0, compute_sequence=0.25).decode_seconds(
        4, reading=2
    ) == pytest.approx(1)


# Launches


def sizes(architecture: Architecture, devices: int) -> list[tuple[float, float, float]]:
    """Products of so many inputs and outputs on each device, and how often in a pass."""
    found = launches(Shape(architecture), devices)
    return [(one.inputs, one.outputs, one.count) for one in found]


def test_queries_keys_and_values_are_one_product_and_so_are_gate_and_up() -> None:
    """q 8x8, k and v 8x4; the way out; 8 to 2 x 16, and down: each once a layer."""
    assert sizes(SMALL, 1) == [(8, 16, 2), (8, 8, 2), (8, 32, 2), (16, 8, 2)]


def test_devices_share_out_the_outputs_and_on_the_way_back_the_inputs() -> None:
    assert sizes(SMALL, 2) == [(8, 8, 2), (4, 8, 2), (8, 16, 2), (8, 8, 2)]
    assert {one.copies for one in launches(Shape(SMALL), 2)} == {1}


def test_the_way_down_to_a_latent_vector_is_whole_on_every_device() -> None:
    """8 to 6 for queries, and to 6 + 2 for keys and values; both ways up have 6 inputs."""
    down, up, back = (8, 6 + 8, 2), (6, 4 * (2 + 2) + 4 * (2 + 2), 2), (8, 8, 2)
    assert sizes(LATENT, 1)[:3] == [down, up, back]
    assert sizes(LATENT, 2)[:3] == [down, (6, 16, 2), (4, 8, 2)]
    assert [one.copies for one in launches(Shape(LATENT), 2)] == [2, 1, 1, 1, 1]
    # Without latent queries, heads' own are shared out although they come from the hidden state.
    plain = replace(LATENT, q_lora_rank=None)
    assert sizes(plain, 2)[:2] == [(8, 4 * (2 + 2) / 2, 2), (8, 8, 2)]
    assert [one.copies for one in launches(Shape(plain), 2)][:2] == [1, 2]


def test_routers_are_whole_and_routed_experts_are_no_product() -> None:
    found = launches(Shape(MIXTURE), 2)
    by_part = {launch.linears[0].part: launch for launch in found}
    router = by_part["router"]
    assert (router.inputs, router.outputs, router.count, router.copies) == (8, 8, 1, 2)
    assert by_part["shared_experts"].count == by_part["mlp"].count == 1
    assert not any(linear.routed for launch in found for linear in launch.linears)


def test_devices_sum_after_each_mixer_and_each_mlp() -> None:
    assert reductions(Shape(SMALL)) == reductions(Shape(MIXTURE)) == 2 * 2


# A pass


def test_all_weights_are_read_once_at_what_the_kernels_reach(shapes: dict[str, Shape]) -> None:
    device, family, shape = read_device("h100_sxm"), engine_family("vllm"), shapes["llama31_8b"]
    for label, weight_bytes in (("bf16", 2.0), ("w4a16-g128", 4.125 / 8)):
        fmt = find_format(label)
        rates = matmul_rates(device, family.kernels, fmt)
        for devices in (1, 8):
            found = forward(shape, fmt, Setting(device, family, devices), 1024, 512)
            read = sum(one.count * one.read_fixed for one in found.products)
            assert read * rates.bytes_per_second == pytest.approx(
                weight_bytes * shape.linear_weights / devices
            )
            assert found.floor_seconds == pytest.approx(4 * 32 * rates.floor_seconds)
            assert (found.reduce is None) is (devices == 1)
            # The head is in 16 bits whatever the rest is in.
            plain = matmul_rates(device, family.kernels, find_format("bf16")).bytes_per_second
            assert found.head.read_fixed * plain == pytest.approx(
                2 * shape.embedding_weights / devices
            )


def test_what_each_device_has_whole_is_read_by_each(shapes: dict[str, Shape]) -> None:
    shape, fmt = Shape(LATENT), find_format("bf16")
    device, family = read_device("h100_sxm"), engine_family("vllm")
    rate = matmul_rates(device, family.kernels, fmt).bytes_per_second
    down = 2 * 8 * (6 + 8)
    found = forward(shape, fmt, Setting(device, family, 2), 8, 4)
    read = sum(one.count * one.read_fixed for one in found.products) * rate
    assert read == pytest.approx(2 * (down + (shape.linear_weights - down) / 2))


def test_experts_of_a_layer_are_read_as_they_are_chosen() -> None:
    """One of 8 experts of 3·8·4 weights; two devices have half of each."""
    shape, fmt, device = Shape(MIXTURE), find_format("bf16"), read_device("h100_sxm")
    family = engine_family("vllm")
    rates = expert_rates(device, family.kernels, fmt)
    for devices in (1, 2):
        experts = forward(shape, fmt, Setting(device, family, devices), 8, 4).experts
        assert experts is not None
        assert (experts.layers, experts.experts, experts.per_token) == (1, 8, 2)
        assert experts.read_expert * rates.bytes_per_second == pytest.approx(2 * 96 / devices)
    assert forward(Shape(SMALL), fmt, Setting(device, family), 8, 4).experts is None


def test_a_step_is_longer_than_its_bytes_and_grows_with_all_there_is(
    shapes: dict[str, Shape],
) -> None:
    shape, fmt = shapes["llama31_8b"], find_format("bf16")
    device = read_device("h100_sxm")
    setting = Setting(device, engine_family("vllm"))
    near, far = (forward(shape, fmt, setting, context, context) for context in (512, 8192))
    streamed = fmt.streamed_bytes(shape, 1) / (device.memory_bandwidth_gigabytes_per_second or 0)
    assert near.decode_seconds(1) > streamed / 1e9
    steps = [near.decode_seconds(batch) for batch in (1, 2, 8, 64, 512)]
    assert steps == sorted(steps)
    assert far.decode_seconds(8) > near.decode_seconds(8)
    # Attention is quadratic, all else is not.
    assert far.attention.prefill_seconds > 8 * 16 * near.attention.prefill_seconds
    assert 8 * near.prefill_seconds(512) < far.prefill_seconds(8192)
    reading, computing = near.parts(1)
    assert reading > 100 * computing
    reading, computing = forward(shape, fmt, setting, 16, 8).parts(2048)
    assert computing > reading


# Which row


@pytest.mark.parametrize(
    ("name", "row_of", "exact"),
    [
        ("h200_sxm", "h200_sxm", True),  # its own
        ("h100_sxm", "h100_sxm", True),
        ("h100_nvl", "h100_sxm", True),  # 3,938 GB/s: the nearest of the generation
        ("h100_pcie", "h100_sxm", True),
        ("rtx5090", "rtx_pro_6000_server", True),
        ("l4", "l40s", True),
        ("t4", "l40s", False),  # of a similar generation
        ("rtx3090", "l40s", False),
        ("apple_m3_ultra", "", False),  # of any
    ],
)
def test_the_nearest_devices_row_is_gone_by(name: str, row_of: str, exact: bool) -> None:
    found = find_row("gemm", read_device(name), SERVERS, of=("kernel", ("w16a16",)))
    assert (found.row["device"], found.is_exact) == (row_of, exact)


def test_what_a_kernel_is_comes_before_whose_it_is() -> None:
    a100, b200 = read_device("a100_80_sxm"), read_device("b200_sxm")
    four = find_row("gemm", a100, SERVERS, of=("kernel", ("w4a16", "w16a16")))
    assert (four.row["engine"], four.row["kernel"], four.is_exact) == ("trtllm", "w4a16", True)
    own = find_row("gemm", b200, ("sglang", "vllm"), of=("kernel", ("w16a16",)))
    assert own.row["engine"] == "sglang"


@pytest.mark.parametrize("family", ["vllm", "trtllm", "sglang", "hf", "llama_cpp"])
@pytest.mark.parametrize("label", ["bf16", "w8a8", "fp8_e4m3", "w8a16-per_channel", "w4a16-g128"])
def test_engines_that_a_family_does_not_name_tell_nothing_of_it(family: str, label: str) -> None:
    """A server's kernels unpack 4 bits to 16; llama.cpp's multiply integers of 8."""
    kernels = engine_family(family).kernels
    for device in described():
        rates = matmul_rates(device, kernels, find_format(label))
        others = [one for one in SERVERS if one not in kernels] + ["llama_cpp"]
        for table in ("gemm", "experts"):
            found = find_row(table, device, kernels, of=("kernel", ("w16a16",)))
            assert found.row["engine"] in (*kernels, "any")
            assert family == "llama_cpp" or found.row["engine"] not in others
        # No more than the device has, and some of it.
        bandwidth = (device.memory_bandwidth_gigabytes_per_second or 0) * 1e9
        assert 0.2 * bandwidth < rates.bytes_per_second < 1.1 * bandwidth
        assert 0 < rates.operations_per_second <= 1.1e12 * max(device.peak_teraflops.values())


def test_a_server_multiplies_4_bits_nearly_as_fast_as_16_on_hopper() -> None:
    device, kernels = read_device("h100_sxm"), engine_family("vllm").kernels
    four, sixteen = (
        matmul_rates(device, kernels, find_format(label)) for label in ("w4a16-g128", "bf16")
    )
    assert four.activation_bytes == 2, "activations stay in 16 bits"
    assert 0.4 < four.operations_per_second / sixteen.operations_per_second < 1


def test_a_table_without_rows_for_everything_else_says_so() -> None:
    with pytest.raises(LookupError, match="table all_reduce has no row"):
        find_row("all_reduce", read_device("apple_m3_ultra"), SERVERS, of=("devices", ("2",)))


@pytest.mark.parametrize(
    ("label", "device", "kernel"),
    [
        ("bf16", "h100_sxm", "w16a16"),
        ("w8a8", "a100_80_sxm", "w8a8_int8"),
        ("w8a8", "v100_sxm2_32", "w8a16"),
        ("fp8_e4m3", "h100_sxm", "w8a8_fp8"),
        ("fp8_block", "h100_sxm", "w8a8_fp8_block"),
        ("fp8_block", "a100_80_sxm", "w8a16"),
        ("fp8_e4m3", "a100_80_sxm", "w8a16"),
        ("fp8_e4m3_a16", "h100_sxm", "w8a16"),
        ("q8_0", "rtx4090", "w8a16"),
        ("w4a16-g128", "h100_sxm", "w4a16"),
        ("q6_k", "h100_sxm", "w4a16"),
        ("mxfp4", "h100_sxm", "w4a16_mxfp4"),
        ("mxfp4", "b200_sxm", "w4a8_mxfp4"),
        ("nvfp4_a4", "b200_sxm", "w4a4"),
        ("nvfp4_a4", "h100_sxm", "w4a16"),
    ],
)
def test_kernels_of_a_format(label: str, device: str, kernel: str) -> None:
    assert kernel_of(find_format(label), read_device(device)) == kernel


def test_a_cache_of_8_bits_is_read_by_kernels_of_8_bits() -> None:
    device = read_device("h100_sxm")
    eight, sixteen = (attention_rates(device, ("trtllm",), bits, latent=False) for bits in (8, 16))
    assert eight.bytes_per_second != sixteen.bytes_per_second
    assert sixteen.decode_operations_per_second is None
    latent = attention_rates(device, ("trtllm",), 16, latent=True)
    peak = device.peak_teraflops["bf16"] * 1e12
    assert latent.decode_operations_per_second is not None
    assert 0.3 * peak < latent.decode_operations_per_second < peak


# Sums over devices


def all_reduce(name: str, devices: int, message: float, engine: str = "vllm") -> float:
    rates = reduce_rates(read_device(name), engine_family(engine).kernels, devices)
    assert rates is not None
    small = rates.small_latency_seconds + message / rates.small_bytes_per_second
    return min(small, rates.large_latency_seconds + message / rates.large_bytes_per_second)


@pytest.mark.parametrize("devices", [2, 4, 8])
@pytest.mark.parametrize("engine", ["vllm", "trtllm", "sglang"])
def test_small_sums_over_nvlink(devices: int, engine: str) -> None:
    """16 to 64 KiB over H100: 2.5 to 7.9 us in aiconfigurator's measurements."""
    times = [all_reduce("h100_sxm", devices, kib * 1024, engine) for kib in (16, 64)]
    assert 2.2e-6 < times[0] < times[1] < 8e-6


def test_large_sums_over_nvlink() -> None:
    """64 Mi numbers of 2 bytes over 8 H100: 577 us."""
    assert all_reduce("h100_sxm", 8, 2 * 2**26) == pytest.approx(577e-6, rel=0.15)


@pytest.mark.parametrize("engine", ["vllm", "trtllm", "sglang"])
def test_sums_through_the_host_take_milliseconds(engine: str) -> None:
    """A million numbers over 8 L40S: 2 to 3.4 ms; a pair is far quicker."""
    assert 1.5e-3 < all_reduce("l40s", 8, 2**21, engine) < 3.6e-3
    assert all_reduce("l40s", 2, 2**21, engine) < 0.5e-3
    # Of other devices in slots the link decides, not their own generation: beyond a bridge too.
    assert all_reduce("rtx4090", 8, 2**21, engine) == all_reduce("l40s", 8, 2**21, engine)
    assert all_reduce("h100_nvl", 4, 2**21, engine) == all_reduce(
        "rtx_pro_6000_server", 4, 2**21, engine
    )


def test_sums_that_nobody_has_measured_go_by_their_link() -> None:
    kernels = engine_family("vllm").kernels
    device = read_device("h100_sxm")
    assert reduce_rates(device, kernels, 1) is None
    assert reduce_rates(replace(device, interconnect=Interconnect()), kernels, 2) is None
    slow, fast = (
        reduce_rates(
            replace(device, architecture="new", interconnect=Interconnect("a link", speed)),
            kernels,
            4,
        )
        for speed in (100.0, 1000.0)
    )
    assert slow is not None and fast is not None
    assert slow.large_bytes_per_second == pytest.approx(0.45 * 50e9)
    assert fast.large_bytes_per_second == pytest.approx(10 * slow.large_bytes_per_second)
    assert fast.small_latency_seconds == slow.small_latency_seconds > 0


# Engines' constants and how far predictions are off


def test_constants_of_a_generation_are_multiplied() -> None:
    family = EngineFamily("x", ("x",), NEUTRAL, {"new": {"reading": 0.5, "layer_seconds": 2.0}})
    assert family.on("old") == family.on(None) == NEUTRAL
    assert family.on("new") == replace(NEUTRAL, reading=0.5)
    slow = replace(family, constants=replace(NEUTRAL, layer_seconds=3.0))
    assert slow.on("new").layer_seconds == 6


def test_an_engine_without_constants_is_predicted_by_the_default_ones() -> None:
    assert family_of("llama_cpp").name == "llama_cpp"
    assert family_of(None).name == family_of("unheard_of").name == "vllm"
    with pytest.raises(UsageError, match=r"engine unheard_of cannot be predicted; those of .*vllm"):
        engine_family("unheard_of")


@pytest.mark.parametrize(
    ("device", "exact", "said"),
    [
        ("h100_sxm", True, "vllm: kernels measured on Hopper HBM"),
        ("t4", False, "vllm: kernels measured on Ada GDDR, the nearest to Turing GDDR"),
    ],
)
def test_a_prediction_says_whose_kernels_it_is_made_of(device: str, exact: bool, said: str) -> None:
    fmt = find_format("bf16")
    found = published(Subject(Shape(SMALL), fmt, read_device(device), "vllm", 1, 16, 8, 4))
    assert (found.source, found.is_exact, found.spread) == (said, exact, None)
    assert has_rows(read_device(device)) is exact


SIZES = (1_000_000_000, 8_000_000_000)
KINDS = [
    Kind(family, experts, parameters, exact)
    for family in ("vllm", "llama_cpp", "hf")
    for experts in (True, False)
    for parameters in SIZES
    for exact in (True, False)
]


def test_every_kind_of_prediction_has_a_range() -> None:
    names = {
        ask(users).name
        for kind in KINDS
        for ask in (kind.token_regime, kind.prompt_regime, kind.throughput_regime)
        for users in (1, 2, 8, 9, 1000)
    }
    assert len(names) > 10
    for regime in regimes().values():
        assert 0 < regime.low < regime.high and regime.low < 1.2 and regime.high > 0.8
        assert regime.what and 0 < regime.median_error < 1


def test_what_a_range_depends_on() -> None:
    dense = Kind("vllm", experts=False, parameters=SIZES[1], exact=True)
    assert dense.token_regime(1) is not dense.token_regime(2)
    assert dense.token_regime(2) is dense.token_regime(8) is not dense.token_regime(9)
    assert replace(dense, experts=True).token_regime(9) is not dense.token_regime(9)
    assert replace(dense, parameters=SIZES[0]).token_regime(1) is not dense.token_regime(1)
    assert replace(dense, exact=False).token_regime(1).name == "one_dense_elsewhere"
    assert replace(dense, family="llama_cpp").token_regime(1).name == "llama_cpp_decode"
    for local in (False, True):
        doubtful = replace(dense, exact=False, local=local)
        for users in (1, 4, 64):
            for kind in (dense, replace(dense, family="llama_cpp")):
                known = kind.token_regime(users), kind.prompt_regime(users)
                unsure = replace(kind, exact=False, local=local)
                doubted = unsure.token_regime(users), unsure.prompt_regime(users)
                for one, other in zip(known, doubted, strict=True):
                    assert other.low <= one.low and other.high >= one.high
                    assert other.median_error >= one.median_error
        assert doubtful.token_regime(1).name.endswith("machine" if local else "elsewhere")
    assert dense.prompt_regime(1) is not dense.prompt_regime(2)
    # One user's rate is what a token takes; many users' hangs on their prompts too.
    assert dense.throughput_regime(1) is dense.token_regime(1)
    assert dense.throughput_regime(64) is not dense.token_regime(64)
    found, one = dense.token_regime(1).around(2.0), dense.token_regime(1)
    assert (found.low, found.expected, found.high) == (2 * one.low, 2, 2 * one.high)


def test_what_was_fitted_here_has_its_own_range() -> None:
    fitted = spread_regime(0.25)
    assert (fitted.low, fitted.high, fitted.median_error) == pytest.approx((0.8, 1.25, 0.125))
