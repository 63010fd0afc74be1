"""Schemes of compressed-tensors: how weights and the activations that meet them are rounded."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import fp4_utils, helpers
from safetensors.numpy import save_file
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from runner.engines.hf.experts import round_products
from runner.environments.patches import (
    compressed_tensors_fp4_on_cpus,
    compressed_tensors_token_scales,
)
from runner.errors import Refused
from runner.methods import used_recipe
from runner.methods.backends.compressed_schemes import build_scheme
from runner.methods.backends.expert_layers import expert_names
from runner.methods.backends.smoothing import require_whole_blocks
from tests.unit.conftest import Compose
from tests.unit.test_backends import LLAMA, MIXTRAL

pytestmark = pytest.mark.unit


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    save_file({"model.norm.weight": np.ones(4, np.float16)}, tmp_path / "model.safetensors")
    return tmp_path


def job(model: Path, composed: Compose, words: str) -> Any:
    recipe = used_recipe(composed(*words.split()))
    return SimpleNamespace(model_directory=model, recipe=recipe, trust_remote_code=False)


@pytest.mark.parametrize(
    ("words", "weights", "activations", "form"),
    [
        ("bits=w4a8", ("group", None, torch.float16), ("token", 8, "int"), "pack-quantized"),
        ("bits=w4a4", ("group", None, torch.float16), ("token", 4, "int"), "pack-quantized"),
        (
            "bits=w4a_fp8_e4m3",
            ("group", None, torch.float16),
            ("token", 8, "float"),
            "pack-quantized",
        ),
        ("bits=w8a8", ("channel", None, torch.float16), ("token", 8, "int"), None),
        ("bits=fp8_block", ("block", [128, 128], torch.float16), ("group", 8, "float"), None),
        ("bits=mxfp8", ("group", None, torch.uint8), ("group", 8, "float"), None),
        ("bits=mxfp8_a16", ("group", None, torch.uint8), None, None),
        ("bits=mxfp4_a4", ("group", None, torch.uint8), ("group", 4, "float"), None),
        ("bits=nvfp4", ("tensor_group", None, torch.float8_e4m3fn), None, None),
        (
            "bits=nvfp4_a4",
            ("tensor_group", None, torch.float8_e4m3fn),
            ("tensor_group", 4, "float"),
            None,
        ),
    ],
)
def test_activations_are_scaled_as_the_format_says(
    words: str, weights: Any, activations: Any, form: str | None, model: Path, composed: Compose
) -> None:
    made = build_scheme(
        job(model, composed, f"method=rtn {words}"), sym=True, observer="memoryless_minmax"
    )
    own = made.weights
    assert (own.strategy, own.block_structure, own.scale_dtype) == weights
    met = made.input_activations
    assert (met and (met.strategy, met.num_bits, met.type)) == activations
    assert made.format == form
    if met is not None and own.group_size and met.strategy != "token":
        assert met.group_size == own.group_size and met.scale_dtype == own.scale_dtype


@pytest.mark.parametrize(
    ("words", "reads"), [("nvfp4_a4", True), ("nvfp4", False), ("mxfp4_a4", False), ("w4a8", False)]
)
def test_only_nvfp4_scales_whole_tensors_of_activations_on_text(
    words: str, reads: bool, composed: Compose
) -> None:
    for method in ("rtn", "nvfp4" if words.startswith("nv") else "rtn"):
        recipe = used_recipe(composed(f"method={method}", f"bits={words}"))
        assert (recipe.calibration is not None) is reads


@pytest.mark.parametrize("words", ["mxfp8", "fp8_block", "nvfp4", "w4a8"])
def test_experts_in_formats_that_nobody_reads_back_are_refused(
    words: str, model: Path, composed: Compose
) -> None:
    (model / "config.json").write_text(json.dumps(MIXTRAL))
    asked = job(model, composed, f"method=rtn bits={words}")
    scheme = build_scheme(asked, sym=True, observer="memoryless_minmax")
    with pytest.raises(Refused, match="transformers does not read"):
        expert_names(asked, [SimpleNamespace(config_groups={"linear": scheme})])


def test_awq_compares_weights_in_whole_blocks(model: Path, composed: Compose) -> None:
    blocks = "method=awq bits=fp8_e4m3 group_size=b64 group_size.size"
    with pytest.raises(Refused, match=r"k_proj has 16 outputs, no multiple of 32"):
        require_whole_blocks(job(model, composed, f"{blocks}=32"))
    require_whole_blocks(job(model, composed, f"{blocks}=16"))
    require_whole_blocks(job(model, composed, "method=awq bits=mxfp8"))


def test_rounding_to_four_bit_floats_is_quicker_and_the_same() -> None:
    entry, registered = fp4_utils.ImplBackend._fn_registry, "cast_to_fp4_on_cpus"
    if registered not in entry:  # a worker in this process may have applied it
        compressed_tensors_fp4_on_cpus.apply()
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 7.0, 1e9, 0.0])
    values = torch.cat([ties, -ties, torch.nextafter(ties, ties + 1), torch.randn(999) * 3])
    for dtype in (torch.float32, torch.bfloat16):
        numbers = values.to(dtype)
        own, theirs = entry[registered](numbers), entry["cast_to_fp4"](numbers.clone())
        assert own.dtype == dtype and torch.equal(own, theirs)


def test_each_row_of_a_matrix_has_its_own_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        helpers, "compute_dynamic_scales_and_zp", helpers.compute_dynamic_scales_and_zp
    )
    compressed_tensors_token_scales.apply()
    token = QuantizationArgs(num_bits=8, type="float", strategy="token", dynamic=True)
    rows = torch.tensor([[1.0, -2.0], [100.0, 3.0], [0.5, 0.25]])
    scales, zeros = helpers.compute_dynamic_scales_and_zp(rows, token, None)
    of_batch, _ = helpers.compute_dynamic_scales_and_zp(rows[None], token, None)
    assert scales.shape == zeros.shape == (3, 1) and torch.equal(scales, of_batch[0])
    assert torch.allclose(scales[:, 0] * 448, rows.abs().amax(1), rtol=1e-3)


def test_fused_experts_round_what_each_product_is_given() -> None:
    experts = MixtralExperts(MixtralConfig(hidden_size=8, intermediate_size=4, num_local_experts=2))
    experts.config._experts_implementation = "eager"
    for matrix in experts.parameters():
        torch.nn.init.normal_(matrix)
    states = torch.randn(3, 8)
    chosen, weights = torch.tensor([[0], [1], [0]]), torch.ones(3, 1)
    round_products(experts, torch.round)
    with torch.no_grad():
        found = experts(states, chosen, weights)
        for row, (expert,) in enumerate(chosen.tolist()):
            gate, up = (experts.gate_up_proj[expert] @ states[row].round()).chunk(2)
            inner = (torch.nn.functional.silu(gate) * up).round()
            assert torch.allclose(found[row], experts.down_proj[expert] @ inner, atol=1e-5)
