"""What a format stores and what an engine makes of it, counted by hand on a small model."""

from typing import Any

import pytest

from runner.api import compose_config
from runner.config.schema.architecture import Architecture
from runner.errors import UsageError
from runner.planning.formats import Format, find_format, integer_format
from runner.planning.model_shape import Shape
from runner.planning.runtime_format import (
    dense_format,
    kv_number_bytes,
    runtime_format,
    runtime_format_of,
)
from tests.unit.small_plan import SMALL

pytestmark = pytest.mark.unit


def shape(**changes: Any) -> Shape:
    return Shape(Architecture(**{**vars(SMALL), **changes}))


@pytest.mark.parametrize(
    ("label", "stored", "streamed"),
    [
        # 1152 weights, 80 of the head and 80 of the embedding, 40 of norms.
        ("bf16", 2 * 1352, 2 * 1232),
        ("fp32", 4 * 1352, 4 * 1232),
        ("w8a8", 1152 + 2 * 128 + 2 * 200, 1152 + 2 * 128 + 2 * 80),
        ("w4a16-g8", 1152 * (0.5 + 2 / 8) + 400, 1152 * 0.75 + 160),
        ("w4a16-g8-asym", 1152 * (0.5 + 2.5 / 8) + 400, 1152 * 0.8125 + 160),
        ("w4a16-asym", 1152 / 2 + 128 * 2.5 + 400, 1152 / 2 + 128 * 2.5 + 160),
        # Inputs of 8 and 16 are no multiples of 256; norms stay in 16 bits.
        (
            "q4_k_m",
            (1152 * 5.94 + 80 * 6.5625 + 80 * 4.5) / 8 + 80,
            (1152 * 5.94 + 80 * 6.5625) / 8,
        ),
    ],
)
def test_bytes_of_a_small_model(label: str, stored: float, streamed: float) -> None:
    fmt = find_format(label)
    assert fmt.stored_bytes(shape()) == pytest.approx(stored)
    assert fmt.streamed_bytes(shape()) == pytest.approx(streamed)


def test_of_a_mixture_experts_alone_may_be_quantized() -> None:
    """Two layers of 4 experts of 16 x 8, three matrices each: 3072 weights of 3456."""
    mixture = shape(experts=4, experts_per_token=2, expert_intermediate=16, dense_layers=0)
    routed, rest, router = 2 * 4 * 3 * 16 * 8, 2 * (8 * 8 * 2 + 8 * 4 * 2), 2 * 8 * 4
    plain, whole, part = map(find_format, ("bf16", "w4a16-g8", "w4a16-g8-experts"))
    assert plain.linear_bits(mixture) == 16 * (routed + rest)
    assert part.linear_bits(mixture) == 6 * routed + 16 * rest
    assert whole.linear_bits(mixture) == 6 * (routed + rest)
    assert part.stored_bytes(mixture) == plain.stored_bytes(mixture) - 10 * routed / 8
    # One token reads half of the experts, and everything else.
    assert part.streamed_bytes(mixture) == (6 * routed / 2 + 16 * rest + 80 * 16) / 8
    experts, others = (
        [linear for linear in mixture.linears if linear.routed is kind] for kind in (True, False)
    )
    assert {part.of(linear).label for linear in experts} == {"w4a16-g8-experts"}
    assert {part.of(linear).label for linear in others} == {"bf16"}
    # Routers stay in 16 bits whatever the recipe.
    assert sum(linear.weights for linear in others if linear.kept) == router
    assert sum(plain.bits_of(linear) for linear in others if linear.kept) == 16 * router


@pytest.mark.parametrize(("model", "gibibytes"), [("gpt_oss_20b", 12.8), ("gpt_oss_120b", 60.8)])
def test_a_model_takes_as_much_as_its_card_says(model: str, gibibytes: float) -> None:
    """Checkpoints of gpt-oss (arXiv 2508.10925, table 1)."""
    found = compose_config([f"model={model}"]).model
    assert found.published_as is not None
    stored = find_format(found.published_as).stored_bytes(Shape(found.architecture))
    assert stored / 2**30 == pytest.approx(gibibytes, rel=0.01)


@pytest.mark.parametrize(
    ("label", "bits"), [("fp8_block", 8 + 32 / 128**2), ("mxfp8", 8 + 8 / 32), ("nvfp4", 4.5)]
)
def test_scales_of_blocks_are_counted(label: str, bits: float) -> None:
    assert find_format(label).bits_per_weight(shape()) == pytest.approx(bits)


def test_a_tied_table_is_stored_once_and_streamed_all_the_same() -> None:
    tied = shape(tied_embeddings=True)
    assert find_format("bf16").stored_bytes(tied) == 2 * 1272
    assert find_format("bf16").streamed_bytes(tied) == 2 * 1232


def test_wide_layers_have_the_blocks_of_their_type() -> None:
    wide = shape(hidden=256, heads=128, kv_heads=1, intermediate=16, layers=1)
    # Only the down projection has 16 inputs.
    inside, outside = 256 * (256 + 2 * 2 + 256 + 2 * 16), 16 * 256
    fmt = find_format("q3_k_m")
    assert fmt.linear_bits(wide) == pytest.approx(3.845 * inside + 5.0 * outside)


@pytest.mark.parametrize(
    ("label", "fields"),
    [
        ("w4a16-g128", (4, "bf16", 128, 16, 0.0, "w4a16")),
        ("w3a16-g64-asym", (3, "bf16", 64, 16, 3.0, "w3a16")),
        ("w8a16", (8, "bf16", None, 16, 0.0, "w8a16")),
        ("w2a16-per_channel-asym", (2, "bf16", None, 16, 2.0, "w2a16")),
        ("fp16", (16, "fp16", None, 0.0, 0.0, None)),
        ("nvfp4_a4", (4, "fp4", 16, 8, 0.0, None)),
    ],
)
def test_a_label_is_read(label: str, fields: tuple[Any, ...]) -> None:
    found = find_format(label)
    assert found.label == label
    assert fields == (
        found.weight_bits,
        found.arithmetic,
        found.group,
        found.scale_bits,
        found.zero_bits,
        found.scheme,
    )


@pytest.mark.parametrize(
    ("group", "zero_points", "label"),
    [(64, False, "w4a16-g64"), (64, True, "w4a16-g64-asym"), (None, False, "w4a16-per_channel")],
)
def test_integers_are_labelled(group: int | None, zero_points: bool, label: str) -> None:
    assert integer_format(4, group, zero_points) == find_format(label)


@pytest.mark.parametrize(
    ("label", "start", "end"),
    [
        (
            "w9a16",
            "plan.recipes: there is no w9a16; it is one of bf16, fp16, fp32, w8a8, llm_int8,",
            "auto90GB+20GBactive-g64, gguf_auto5, gguf_auto90GB",
        ),
        (
            "int4",
            "plan.recipes: int4 needs 4-bit integer products, which no engine",
            "try w4a8-g128 or w4a16-g128 (4-bit weights, products in 16 bits)",
        ),
        ("w4a4-g128", "plan.recipes: w4a4-g128 needs 4-bit integer products", "bits)"),
        ("w4a16-g0", "plan.recipes: there is no w4a16-g0", "gguf_auto90GB"),
    ],
)
def test_an_unknown_label_is_told(label: str, start: str, end: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_format(label)
    assert str(refused.value).startswith(start) and str(refused.value).endswith(end)


@pytest.mark.parametrize(
    ("bits", "kernels"), [(32, 16), (16, 16), (15.9, 8), (6.7, 8), (6.6, 4), (2, 4)]
)
def test_kernels_are_of_three_classes(bits: float, kernels: int) -> None:
    assert Format("x", bits, "bf16").prior_bits == kernels


@pytest.mark.parametrize(
    ("arithmetic", "few"),
    [("int8", True), ("fp8", True), ("fp4", True), ("bf16", False), ("fp32", False)],
)
def test_activations_of_few_bits(arithmetic: str, few: bool) -> None:
    assert Format("x", 8, arithmetic).quantizes_activations is few


@pytest.mark.parametrize(
    ("engine", "dtype", "label"),
    [
        ("hf", "float32", "fp32"),
        ("hf", "float16", "fp16"),
        ("hf", "bfloat16", "bf16"),
        ("hf", "auto", "bf16"),
        ("hf", "another", "bf16"),
        ("llama_cpp", "float32", "fp16"),
        ("llama_cpp", "auto", "fp16"),
        ("llama_cpp", "bfloat16", "bf16"),
    ],
)
def test_how_a_dense_model_is_held(engine: str, dtype: str, label: str) -> None:
    assert dense_format(engine, dtype) == find_format(label)
    assert runtime_format(find_format("bf16"), engine, dtype) == find_format(label)
    assert runtime_format_of(engine, dtype, {}, quantized=False) == find_format(label)


def test_packed_layers_leave_both_tables_dense() -> None:
    held = runtime_format(find_format("nf4"), "hf", "float32")
    assert (held.label, held.weight_bits, held.group) == ("nf4", 4, 64)
    assert (held.head_bits, held.embedding_bits) == (32, 32)


@pytest.mark.parametrize(
    ("engine", "dtype", "size"),
    [("hf", "float32", 4), ("hf", "bfloat16", 2), ("hf", "auto", 2), ("llama_cpp", "float32", 2)],
)
def test_bytes_of_a_number_in_the_cache(engine: str, dtype: str, size: int) -> None:
    assert kv_number_bytes(engine, dtype) == size


def test_parameters_that_are_stated_count() -> None:
    stated = shape(parameters=2000)
    assert (stated.other_weights, stated.parameters) == (2000 - 1152 - 160, 2000)
    # Fewer than the matrices have cannot be.
    assert (shape(parameters=100).other_weights, shape(parameters=100).parameters) == (0, 1312)


def test_latent_attention_with_narrow_queries() -> None:
    latent = shape(kv_lora_rank=6, rope_head_dim=2, q_lora_rank=3, value_head_dim=5, layers=1)
    kinds = [(linear.inputs, linear.outputs, linear.count) for linear in latent.linears]
    assert kinds == [
        (8, 3, 1), (3, 4 * 4, 1), (8, 8, 1), (6, 4 * 7, 1), (4 * 5, 8, 1), (8, 16, 2), (16, 8, 1)
    ]  # fmt: skip
    assert latent.attention_flops(3) == 3 * 2 * 4 * (2 * 6 + 2)
    assert shape().attention_flops(3) == 3 * shape().layers * 4 * 4 * 2


def test_experts_are_counted_by_layer() -> None:
    mixture = shape(
        layers=3, experts=4, experts_per_token=2, shared_experts=2, expert_intermediate=5,
        dense_layers=1,
    )  # fmt: skip
    experts = [(x.inputs, x.outputs, x.count, x.routed) for x in mixture.linears[3:]]
    assert experts == [
        (8, 16, 2, False), (16, 8, 1, False),
        (8, 4, 2, False), (8, 5, 16, True), (5, 8, 8, True),
        (8, 10, 4, False), (10, 8, 2, False),
    ]  # fmt: skip
    assert [x.part for x in mixture.linears[3:]] == [
        "mlp", "mlp", "router", "experts", "experts", "shared_experts", "shared_experts"
    ]  # fmt: skip
    assert (mixture.expert_layers, mixture.mlp_layers, mixture.attention_layers) == (2, 1, 3)
    assert mixture.routed_weights == 8 * 3 * 40
    # Routers are computed with, but not quantized.
    assert mixture.flops_per_token == 2 * (mixture.linear_weights + 64 - 480 + 80)
    assert mixture.active_parameters == mixture.parameters - 480
    # Of 960 routed weights two tokens meet three quarters.
    fmt = find_format("bf16")
    assert fmt.streamed_bytes(mixture, 2) == 2 * (mixture.linear_weights - 240 + 80)
    assert shape().routed_share_touched(5) == 1.0


def test_a_model_without_a_gate_has_two_matrices_in_its_feed_forward() -> None:
    assert shape(family="opt").linear_weights == 1152 - 2 * 8 * 16


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError) as refused:
        shape(layers=None, vocab=0)
    assert str(refused.value) == (
        "a plan needs the model's dimensions; model.architecture lacks layers, vocab: name them, "
        "or a model of conf/model"
    )
