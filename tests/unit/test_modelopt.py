"""ModelOpt's layouts, dequantized by hand, and what its formats can be made with."""

from dataclasses import replace

import pytest
import torch

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.engines.hf.modelopt import dequantize, rounding
from runner.errors import StageError
from runner.methods.backends import modelopt
from runner.methods.modelopt import METHOD, Algorithm, ModelOpt
from runner.methods.recipe import Recipe

pytestmark = pytest.mark.unit

BF16, INT4 = NumberFormat(NumberType.bfloat, 16), NumberFormat(NumberType.int, 4)
FP4, FP8 = NumberFormat(NumberType.float, 4), NumberFormat(NumberType.float, 8, 4)
G16, CHANNEL = GroupSize(Granularity.group, 16), GroupSize(Granularity.channel)


def parts(**given: torch.Tensor) -> dict[str, torch.Tensor | None]:
    return {"weight_scale_2": None, "pre_quant_scale": None, **given}


def test_integers_lie_two_rows_to_a_byte() -> None:
    packed = torch.tensor([[0x8F, 0x71]], dtype=torch.uint8)  # rows (-1, 1) and (-8, 7)
    dense = dequantize(parts(weight=packed, weight_scale=torch.tensor([[2.0], [0.5]])))
    assert dense.tolist() == [[-2.0, 2.0], [-4.0, 3.5]]


def test_floats_of_four_bits_lie_two_columns_to_a_byte() -> None:
    packed = torch.tensor([[0x72, 0xF9]], dtype=torch.uint8)  # 1, 6, -0.5, -6
    scales = torch.tensor([[2.0]]).to(torch.float8_e4m3fn)
    dense = dequantize(parts(weight=packed, weight_scale=scales, weight_scale_2=torch.tensor(0.25)))
    assert dense.tolist() == [[0.5, 3.0, -0.25, -3.0]]


@pytest.mark.parametrize("scale", [torch.tensor(0.5), torch.tensor([0.5, 2.0])])
def test_eight_bits_have_a_scale_a_matrix_or_a_row(scale: torch.Tensor) -> None:
    for dtype in (torch.int8, torch.float8_e4m3fn):
        weight = torch.tensor([[4.0, -2.0], [1.0, 0.0]]).to(dtype)
        rows = scale.reshape(-1, 1).expand(2, 1)
        expected = weight.float() * rows
        assert torch.equal(dequantize(parts(weight=weight, weight_scale=scale)), expected)


def test_an_unknown_packing_is_refused() -> None:
    weight, scale = torch.zeros(2, 32).to(torch.float8_e4m3fn), torch.zeros(2, 1, 2, 1)
    with pytest.raises(StageError, match=r"does not read ModelOpt's torch\.float8_e4m3fn"):
        dequantize(parts(weight=weight, weight_scale=scale))


def test_activations_are_rounded_as_the_checkpoint_says() -> None:
    inputs = torch.tensor([[1.04, -300.0, 0.3, 900.0] * 4])
    eight = rounding("W8A8_SQ_PER_CHANNEL", torch.tensor(2.0), None)(inputs)
    assert eight[0, :4].tolist() == [2.0, -256.0, 0.0, 254.0]
    assert rounding("FP8", torch.tensor(1.0), None)(inputs)[0, :4].tolist() == [
        1.0, -288.0, 0.3125, 448.0
    ]  # fmt: skip
    per_token = rounding("FP8_PER_CHANNEL_PER_TOKEN", None, None)(inputs)
    assert per_token[0, 3] == 900.0
    # The block's scale is 150 of 900 / 6, whose nearest E4M3 number is 144 of 1.
    four = rounding("NVFP4", torch.tensor(1.0), None)(inputs)
    assert four[0, :4].tolist() == [0.0, -288.0, 0.0, 864.0]
    smoothed = rounding("W8A8_SQ_PER_CHANNEL", torch.tensor(2.0), torch.full((16,), 0.5))(inputs)
    assert smoothed[0, 1] == -150.0
    with pytest.raises(StageError, match="does not read ModelOpt's W4A8_AWQ"):
        rounding("W4A8_AWQ", torch.tensor(1.0), None)
    with pytest.raises(StageError, match="FP8 without input_scale"):
        rounding("FP8", None, None)


def test_what_a_format_cannot_be_made_with_is_told_beforehand() -> None:
    four, floats = Bits(INT4, BF16), Bits(FP4, BF16)
    method = ModelOpt("modelopt")
    assert method.chosen(four) is Algorithm.awq_lite
    assert method.misfit(four, G16, "cpu") is None
    searching = replace(method, algorithm=Algorithm.awq_lite)
    reason, nearest = searching.misfit(floats, G16, "cpu") or ("", "")
    assert "on a GPU only" in reason and "method.algorithm=max" in nearest
    assert searching.misfit(floats, G16, "cuda") is None
    reason, nearest = searching.misfit(Bits(FP8, FP8), CHANNEL, "cuda") or ("", "")
    assert "no fp8_e4m3 checkpoints of awq_lite" in reason
    assert nearest == "method.algorithm=max"
    assert "fused experts" in (modelopt.model_refusal({"num_local_experts": 8}) or "")
    assert modelopt.model_refusal({"model_type": "llama"}) is None


def test_text_is_read_only_where_it_decides() -> None:
    text = object()
    for bits, groups, reads in (
        (Bits(INT4, BF16), G16, True),
        (Bits(FP8, FP8), CHANNEL, False),
        (Bits(FP8, FP8), GroupSize(Granularity.tensor), True),
        (Bits(FP4, BF16), G16, False),
        (Bits(FP4, FP4), G16, True),
    ):
        recipe = Recipe(ModelOpt("modelopt"), bits, groups, text)  # type: ignore[arg-type]
        assert (METHOD.calibration_for(recipe) is text) == reads
