"""Numbers that are none are put down to the type they were computed in, or to the weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runner.engines.overflow import not_finite

pytestmark = pytest.mark.unit


def said(directory: Path, tensor: torch.Tensor, dtype: str) -> str:
    norm = torch.ones(4, dtype=tensor.dtype)
    save_file({"norm.weight": norm, "down_proj.weight": tensor}, directory / "model.safetensors")
    return str(not_finite(directory, dtype, "the model gives losses", "eval.dtype"))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_weight_that_float16_cannot_hold_is_named_with_the_setting(
    stored: torch.dtype, tmp_path: Path
) -> None:
    found = said(tmp_path, torch.tensor([1.0, -7e4]).to(stored), "float16")
    assert "down_proj.weight contains larger values" in found
    assert "eval.dtype=bfloat16 or eval.dtype=float32" in found
    assert "broken" not in found


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "bfloat16"), ("auto", "float16")])
def test_activations_beyond_float16_are_told_likewise(
    dtype: str, stored: str, tmp_path: Path
) -> None:
    found = said(tmp_path, torch.ones(2, dtype=getattr(torch, stored)), dtype)
    assert "some intermediate values are larger" in found
    assert "eval.dtype=bfloat16" in found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_broken_in_every_type(
    value: float, dtype: str, tmp_path: Path
) -> None:
    found = said(tmp_path, torch.tensor([1.0, value]), dtype)
    assert "broken" in found
    assert "down_proj.weight" in found
    assert "eval.dtype" not in found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_type_of_wide_range_is_not_the_cause(dtype: str, tmp_path: Path) -> None:
    found = said(tmp_path, torch.ones(2), dtype)
    assert "broken" in found
    assert dtype in found
