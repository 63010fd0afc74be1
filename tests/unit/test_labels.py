"""Names of recipes, derived from values."""

import pytest

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.methods import find_method
from runner.methods.recipe import Recipe
from tests.unit.conftest import Compose

pytestmark = pytest.mark.unit

INT, FLOAT, BFLOAT, NORMAL = (
    NumberType.int,
    NumberType.float,
    NumberType.bfloat,
    NumberType.normal_float,
)
BF16 = NumberFormat(BFLOAT, 16)
FP16 = NumberFormat(FLOAT, 16)
E4M3 = NumberFormat(FLOAT, 8, 4)
E5M2 = NumberFormat(FLOAT, 8, 5)


@pytest.mark.parametrize(
    ("weight", "activation", "label"),
    [
        (BF16, BF16, "bf16"),
        (FP16, FP16, "fp16"),
        (NumberFormat(FLOAT, 32), NumberFormat(FLOAT, 32), "fp32"),
        (NumberFormat(INT, 4), BF16, "w4a16"),
        (NumberFormat(INT, 3), BF16, "w3a16"),
        (NumberFormat(INT, 8), NumberFormat(INT, 8), "w8a8"),
        (NumberFormat(INT, 4), NumberFormat(INT, 8), "w4a8"),
        (NumberFormat(INT, 4), NumberFormat(INT, 4), "w4a4"),
        (NumberFormat(INT, 4), E4M3, "w4a_fp8_e4m3"),
        (NumberFormat(NORMAL, 4), BF16, "nf4"),
        (NumberFormat(FLOAT, 4), BF16, "fp4"),
        (E4M3, E4M3, "fp8_e4m3"),
        (E5M2, E5M2, "fp8_e5m2"),
        (E4M3, BF16, "fp8_e4m3_a16"),
        (E4M3, E5M2, "fp8_e4m3_a_fp8_e5m2"),
    ],
)
def test_bits(weight: NumberFormat, activation: NumberFormat, label: str) -> None:
    assert Bits(weight, activation).label == label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("w4a8", "w4a8-g64"),
        ("w4a4", "w4a4-g64"),
        ("w4a_fp8_e4m3", "w4a_fp8_e4m3-g64"),
        ("fp8_e4m3", "fp8_e4m3"),
        *((name, name) for name in ("fp8_block", "mxfp8", "mxfp8_a16", "mxfp4", "mxfp4_a4")),
        *((name, name) for name in ("nvfp4", "nvfp4_a4")),
    ],
)
def test_formats_keep_the_names_that_the_field_gives_them(
    name: str, label: str, composed: Compose
) -> None:
    config = composed("method=gptq", f"bits={name}")
    assert config.method.plan_label(config.bits, config.group_size) == label


@pytest.mark.parametrize(
    ("activation", "quantized"),
    [(BF16, False), (FP16, False), (E4M3, True), (NumberFormat(INT, 8), True)],
)
def test_sixteen_bit_activations_are_not_quantized(
    activation: NumberFormat, quantized: bool
) -> None:
    assert Bits(NumberFormat(INT, 8), activation).quantizes_activations is quantized


@pytest.mark.parametrize(
    ("granularity", "size", "label"),
    [
        (Granularity.tensor, None, "per_tensor"),
        (Granularity.channel, None, "per_channel"),
        (Granularity.group, 32, "g32"),
        (Granularity.group, 128, "g128"),
        (Granularity.block, 128, "b128"),
    ],
)
def test_group_size(granularity: Granularity, size: int | None, label: str) -> None:
    group_size = GroupSize(granularity, size)
    assert group_size.label == label and GroupSize.named(label) == group_size
    assert group_size.is_among(("g*",)) is label.startswith("g")


@pytest.mark.parametrize(
    ("method", "bits", "label"),
    [
        ("gptq", Bits(NumberFormat(INT, 4), BF16), "gptq-w4a16-g64"),
        ("bnb_4bit", Bits(NumberFormat(NORMAL, 4), BF16), "bnb_4bit-nf4-g64"),
        # Nothing is grouped where nothing is rounded.
        ("none", Bits(BF16, BF16), "none-bf16"),
    ],
)
def test_recipe(method: str, bits: Bits, label: str) -> None:
    options = find_method(method).config(name=method)
    recipe = Recipe(options, bits, GroupSize(Granularity.group, 64), None)
    assert recipe.label == label
    assert recipe.is_identity is (method == "none")
