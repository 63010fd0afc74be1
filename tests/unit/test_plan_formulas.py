"""Every formula of a plan against cases worked by hand and published configurations."""

from typing import Any

import pytest

from runner.config.schema.architecture import Architecture
from runner.config.schema.hardware import Hardware, Interconnect
from runner.data.models.architecture.reading import architecture_of
from runner.errors import UsageError
from runner.planning.devices import read_device
from runner.planning.efficiency import Efficiency, prior
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.planning.roofline import (
    PeakRates,
    Roofline,
    Step,
    arithmetic_used,
    decode_work,
    limits_of,
    weights_crossover_batch,
)

pytestmark = pytest.mark.unit

SMALL = Architecture(
    family="llama", layers=2, hidden=8, intermediate=16, heads=4, kv_heads=2, head_dim=2,
    vocab=10, context=64, tied_embeddings=False,
)  # fmt: skip
"""Per layer: q 8x8, k and v 8x4 each, o 8x8, three matrices of 8x16: 64+64+64+384 = 576."""

LLAMA_70B = Architecture(
    family="llama", layers=80, hidden=8192, intermediate=28672, heads=64, kv_heads=8, head_dim=128,
    vocab=128256, context=131072, tied_embeddings=False, parameters=70553706496,
)  # fmt: skip

FULL = Efficiency(1.0, 1.0, 0.0, cache_bandwidth=1.0)


def test_parameters_are_counted() -> None:
    shape = Shape(SMALL)
    assert shape.linear_weights == 2 * 576
    assert shape.parameters == 2 * 576 + 2 * 80 + 8 * 5  # two tables and five norms
    assert shape.flops_per_token == 2 * (1152 + 80)
    assert shape.channels == 2 * (8 + 4 + 4 + 8 + 16 + 16 + 8)


def test_kv_cache_of_grouped_query_attention() -> None:
    shape = Shape(SMALL)
    assert shape.kv_bytes(5, 2.0) == 2 * 2 * 2 * 2 * 2 * 5  # K and V, layers, heads, numbers, bytes
    assert shape.kv_bytes(5, 2.0, tensor_parallel=2) == shape.kv_bytes(5, 2.0) / 2
    # With more devices than key-value heads each holds a whole head.
    assert shape.kv_bytes(5, 2.0, tensor_parallel=4) == shape.kv_bytes(5, 2.0) / 2


def test_windowed_layers_forget() -> None:
    shape = Shape(Architecture(**{**vars(SMALL), "sliding_window": 4}))
    assert shape.cached_tokens(10) == 2 * 4
    half = Shape(Architecture(**{**vars(SMALL), "sliding_window": 4, "global_layer_interval": 2}))
    assert half.cached_tokens(10) == 10 + 4
    assert half.cached_tokens(3) == 6


def test_latent_attention_caches_one_vector_a_layer_on_every_device() -> None:
    latent = Shape(
        Architecture(**{**vars(SMALL), "kv_lora_rank": 6, "rope_head_dim": 2, "value_head_dim": 2})
    )
    assert latent.kv_bytes(5, 2.0) == 2 * (6 + 2) * 5 * 2
    assert latent.kv_bytes(5, 2.0, tensor_parallel=4) == latent.kv_bytes(5, 2.0)
    # q 8x(4 heads of 2+2), down 8x8, up 6x(4x(2+2)), o 8x8, and the feed-forward's 384.
    assert latent.linear_weights == 2 * (128 + 64 + 96 + 64 + 384)


def test_a_token_meets_its_own_experts_and_a_batch_most_of_them() -> None:
    experts = {"experts": 4, "experts_per_token": 1, "shared_experts": 1}
    layers = {"expert_intermediate": 8, "dense_layers": 1}
    mixture = Shape(Architecture(**{**vars(SMALL), **experts, **layers}))
    assert mixture.routed_weights == 4 * 3 * 64
    assert mixture.linear_weights == 2 * 192 + 384 + 5 * 192
    assert mixture.parameters - mixture.active_parameters == 3 * 192
    assert mixture.routed_share_touched(1) == pytest.approx(0.25)
    assert mixture.routed_share_touched(2) == pytest.approx(1 - 0.75**2)
    fmt = find_format("bf16")
    idle = fmt.streamed_bytes(mixture, 1e9) - fmt.streamed_bytes(mixture, 1)
    assert idle == pytest.approx(2 * 0.75 * 4 * 192)


@pytest.mark.parametrize(
    ("label", "bits"),
    [
        ("w4a16-g128", 4.125),
        ("w4a16-g128-asym", 4.15625),
        ("w4a16-g64-asym", 4.3125),
        ("w4a16-g32-asym", 4.625),
        ("nf4", 4.5),
        ("nf4-dq", 4 + 8 / 64 + 32 / (64 * 256)),
        ("mxfp4", 4.25),
        ("nvfp4", 4.5),
        ("mxfp8", 8.25),
        ("bf16", 16.0),
        ("q8_0", 8.5),
        ("q6_k", 6.5625),
    ],
)
def test_bits_per_weight(label: str, bits: float) -> None:
    assert find_format(label).bits_per_weight(Shape(LLAMA_70B)) == pytest.approx(bits)


def test_scales_a_channel() -> None:
    # 8 bits and 16 for each of the 64 output channels of a layer, over 576 weights.
    assert find_format("w8a8").bits_per_weight(Shape(SMALL)) == pytest.approx(8 + 16 * 64 / 576)


@pytest.mark.parametrize(
    ("label", "bits"), [("q4_k_m", 4.894), ("q5_k_m", 5.704), ("q6_k", 6.563), ("q8_0", 8.501)]
)
def test_gguf_files_are_as_large_as_llama_cpp_says(
    label: str, bits: float, shapes: dict[str, Shape]
) -> None:
    shape = shapes["llama31_8b"]
    assert 8 * find_format(label).stored_bytes(shape) / shape.parameters == pytest.approx(
        bits, rel=0.005
    )


def test_narrow_layers_fall_back_in_gguf(shapes: dict[str, Shape]) -> None:
    fmt = find_format("q4_k_m")
    assert fmt.bits_per_weight(shapes["llama31_8b"]) == 4.798
    assert fmt.bits_per_weight(shapes["smollm2_135m"]) > 5  # 576 is no multiple of 256


@pytest.mark.parametrize(
    ("model", "linear", "kv_bytes"),
    [
        ("llama31_8b", 6979321856, 131072),
        ("llama31_70b", 68451041280, 327680),
        ("llama31_405b", 401646551040, 516096),
        ("qwen25_7b", 6525288448, 57344),
        ("qwen3_32b", 31205621760, 262144),
        ("gemma2_9b", 8323596288, 344064),
        ("gemma3_27b", 25598361600, 507904),
        ("phi4", 13631488000, 204800),
        ("opt_6_7b", 6442450944, 524288),
        ("smollm2_135m", 106168320, 23040),
        ("mixtral_8x7b", None, 131072),
        ("deepseek_v3", None, 70272),
    ],
)
def test_published_models(
    model: str, linear: int | None, kv_bytes: int, shapes: dict[str, Shape]
) -> None:
    shape = shapes[model]
    assert linear is None or shape.linear_weights == linear
    assert 2 * shape.kv_numbers_per_token == kv_bytes


def test_active_parameters_of_mixtures(shapes: dict[str, Shape]) -> None:
    assert shapes["mixtral_8x7b"].active_parameters == pytest.approx(12.88e9, rel=0.001)
    assert shapes["deepseek_v3"].active_parameters == pytest.approx(37.55e9, rel=0.001)


@pytest.mark.parametrize(
    ("model", "weights"), [("mixtral_8x7b", 46702792704), ("deepseek_v3", 671026419200)]
)
def test_what_is_not_counted_of_a_mixture_is_little(
    model: str, weights: int, shapes: dict[str, Shape]
) -> None:
    """Norms and routers: the rest of the stated number follows from the dimensions."""
    shape = shapes[model]
    assert shape.parameters == weights
    assert 0 < shape.other_weights < 0.0002 * weights


@pytest.mark.parametrize(
    ("label", "total", "streamed", "a100_ms", "h100_ms"),
    [
        ("bf16", 141.1, 139.0, 68.2, 41.5),
        ("w8a8", 72.7, 70.6, 34.6, 21.1),
        ("w4a16-g128", 39.5, 37.4, 18.3, 11.2),
    ],
)
def test_the_70b_on_paper(
    label: str, total: float, streamed: float, a100_ms: float, h100_ms: float
) -> None:
    shape, fmt = Shape(LLAMA_70B), find_format(label)
    assert fmt.stored_bytes(shape) / 1e9 == pytest.approx(total, abs=0.06)
    assert fmt.streamed_bytes(shape) / 1e9 == pytest.approx(streamed, abs=0.06)
    for name, milliseconds in (("a100_80_sxm", a100_ms), ("h100_sxm", h100_ms)):
        limits = limits_of(fmt, read_device(name))
        assert limits is not None
        assert 1e3 * Roofline(shape, fmt, limits, FULL).bound(1, 1) == pytest.approx(
            milliseconds, abs=0.06
        )


@pytest.mark.parametrize(
    ("bits", "gigabytes", "seconds"), [(16, 140, 70), (8, 70, 35), (4, 35, 17.5)]
)
def test_textbook_numbers_are_the_bound(bits: int, gigabytes: float, seconds: float) -> None:
    """70 B parameters at 2 TB/s: only bytes over bandwidth, nothing kept in 16 bits."""
    weights = 70_000_000_000 * bits / 8
    assert weights == gigabytes * 1e9
    assert weights / 2e12 * 1e3 == seconds
    # The plan's bound of the real model is within 2% in 16 bits; embeddings kept in 16 bits
    # make it longer than the textbook's in 8 and 4.
    fmt = find_format({16: "bf16", 8: "w8a8", 4: "w4a16-g128"}[bits])
    limits = PeakRates(2e12, 312e12, "bf16", None)
    bound = 1e3 * Roofline(Shape(LLAMA_70B), fmt, limits, FULL).bound(1, 1)
    assert bound == pytest.approx(seconds, rel={16: 0.02, 8: 0.02, 4: 0.08}[bits])


@pytest.mark.parametrize(
    ("device", "sixteen", "four"),
    [("a100_80_sxm", 153, 40), ("h100_sxm", 295, 77), ("h200_sxm", 206, 54), ("rtx4090", 164, 43)],
)
def test_crossover_batches_of_weights(device: str, sixteen: int, four: int) -> None:
    limits = limits_of(find_format("bf16"), read_device(device))
    assert limits is not None
    assert weights_crossover_batch(16, limits) == pytest.approx(sixteen, abs=0.6)
    assert weights_crossover_batch(4.15625, limits) == pytest.approx(four, abs=0.8)


def test_time_is_a_maximum_not_a_product() -> None:
    """Claim C2: 8 bits bring at most 2x, memory-bound or compute-bound."""
    shape, device = Shape(LLAMA_70B), read_device("a100_80_sxm")
    for batch in (1, 1024):
        sixteen, eight = (
            Roofline(shape, fmt, limits, FULL).bound(batch, 1)
            for fmt in (find_format("bf16"), find_format("w8a8"))
            if (limits := limits_of(fmt, device))
        )
        assert 1.9 < sixteen / eight <= 2.0


def test_a_decode_step_by_hand() -> None:
    """Two sequences of 5 tokens: weights once, caches twice; 4 operations a cached number pair."""
    shape, fmt = Shape(SMALL), find_format("bf16")
    work = decode_work(shape, fmt, Step(2, 5))
    assert work == ((1152 + 80) * 2, 2 * 160, 2 * (2 * 1232 + 4 * 4 * 2 * 2 * 5))
    limits = PeakRates(1000.0, 10000.0, "bf16", None)
    step = Roofline(shape, fmt, limits, Efficiency(0.5, 0.5, 0.0, cache_bandwidth=0.8)).decode(2, 5)
    assert step.memory == pytest.approx(work.weight_bytes / 500 + work.cache_bytes / 800)
    assert step.compute == pytest.approx(work.operations / 5000)
    assert step.total == max(step.memory, step.compute)


def test_prefill_by_hand() -> None:
    """2 operations a weight and token, half the square of attention, the head once."""
    shape, fmt = Shape(SMALL), find_format("bf16")
    step = Roofline(shape, fmt, PeakRates(1e9, 1000.0, "bf16", None), FULL).prefill(6)
    assert step.compute == pytest.approx((2 * 1152 * 6 + 2 * 80 + 4 * 8 * 2 * 36 / 2) / 1000)


def test_all_reduces_by_hand(shapes: dict[str, Shape]) -> None:
    """Published: 32 KiB over 8 H200 take 40 us, 6.4 ms a token for a 70B of 80 layers."""
    shape, device = shapes["llama31_70b"], read_device("h200_sxm")
    limits = limits_of(find_format("bf16"), device)
    assert limits is not None
    roofline = Roofline(shape, find_format("bf16"), limits, FULL, devices=8)
    assert roofline.all_reduce_seconds(1, "high") == pytest.approx(6.4e-3, rel=0.02)
    assert roofline.all_reduce_seconds(1, "low") < roofline.all_reduce_seconds(1) < 6.4e-3
    # Bandwidth: 2·7/8 of a prompt's 2048 x 8192 x 2 bytes over 450 GB/s, 160 times.
    long = roofline.all_reduce_seconds(2048) - roofline.all_reduce_seconds(0)
    assert long == pytest.approx(160 * 1.75 * 2048 * 8192 * 2 / 450e9)


def test_the_batch_where_memory_turns_to_compute() -> None:
    shape, fmt = Shape(LLAMA_70B), find_format("w4a16-g128")
    limits = limits_of(fmt, read_device("a100_80_sxm"))
    assert limits is not None
    roofline = Roofline(shape, fmt, limits, Efficiency(0.6, 0.5, 0.0))
    turn = roofline.crossover_batch(1024)
    assert turn is not None
    step = roofline.decode(turn, 1024)
    assert step.memory == pytest.approx(step.compute)
    assert roofline.decode(turn - 1, 1024).memory > roofline.decode(turn - 1, 1024).compute
    # Claim C21's core: with long sequences reading the cache outlasts all arithmetic.
    assert Roofline(shape, find_format("w8a8"), limits, FULL).crossover_batch(2**20) is None


@pytest.mark.parametrize(
    ("label", "device", "arithmetic"),
    [
        ("w4a16-g128", "a100_80_sxm", "bf16"),
        ("w4a16-g128", "t4", "fp16"),
        ("w8a8", "a100_80_sxm", "int8"),
        ("w8a8", "v100_sxm2_32", "fp16"),
        ("fp8_e4m3", "a100_80_sxm", "bf16"),
        ("fp8_e4m3", "l4", "fp8"),
        ("fp8_e4m3_a16", "h100_sxm", "bf16"),
        ("nvfp4_a4", "b200_sxm", "fp4"),
        ("nvfp4_a4", "h100_sxm", "bf16"),
    ],
)
def test_the_arithmetic_really_used(label: str, device: str, arithmetic: str) -> None:
    assert arithmetic_used(find_format(label), read_device(device)) == arithmetic


def test_priors_differ_by_bits_and_generation() -> None:
    def mbu(label: str, device: str) -> float:
        return prior(find_format(label), read_device(device)).bandwidth

    assert (
        mbu("bf16", "a100_80_sxm") > mbu("w8a8", "a100_80_sxm") > mbu("w4a16-g128", "a100_80_sxm")
    )
    assert mbu("w4a16-g128", "h100_sxm") < mbu("w4a16-g128", "a100_80_sxm")
    assert mbu("llm_int8", "rtx3090") < 0.1


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("w9a16", "there is no w9a16"),
        ("w4a16-g0", "there is no w4a16-g0"),
        ("int4", "4-bit integer products"),
        ("w4a4", "try w4a16-g128"),
    ],
)
def test_unknown_formats_are_named(label: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_format(label)


def test_a_model_without_dimensions_is_refused() -> None:
    with pytest.raises(UsageError, match=r"lacks layers, hidden"):
        Shape(Architecture(vocab=5))


def test_no_limits_without_a_rate() -> None:
    bare = Hardware(name="x", kind="cuda", interconnect=Interconnect())
    assert limits_of(find_format("bf16"), bare) is None


HF_CONFIGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"num_attention_heads": 32, "hidden_size": 64, "num_local_experts": 8,
         "num_experts_per_tok": 2, "intermediate_size": 99},
        {"experts": 8, "experts_per_token": 2, "expert_intermediate": 99, "head_dim": 2},
    ),
    (
        {"num_attention_heads": 8, "hidden_size": 64, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
         "qk_nope_head_dim": 128, "v_head_dim": 128, "q_lora_rank": 1536, "n_routed_experts": 256,
         "moe_intermediate_size": 2048, "n_shared_experts": 1, "first_k_dense_replace": 3},
        {"kv_lora_rank": 512, "rope_head_dim": 64, "head_dim": 128, "experts": 256,
         "expert_intermediate": 2048, "shared_experts": 1, "dense_layers": 3},
    ),
    (
        {"num_attention_heads": 8, "hidden_size": 64, "sliding_window": 1024,
         "layer_types": ["sliding_attention"] * 5 + ["full_attention"]},
        {"sliding_window": 1024, "global_layer_interval": 6},
    ),
    (
        {"num_attention_heads": 8, "hidden_size": 64, "sliding_window": 1024,
         "use_sliding_window": False},
        {"sliding_window": None, "global_layer_interval": None},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), HF_CONFIGS)
def test_dimensions_are_read_from_a_config_json(
    content: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = architecture_of(content)
    assert {name: getattr(found, name) for name in expected} == expected
