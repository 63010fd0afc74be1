"""The recipe that a model is published in, by config.json: as makers of checkpoints write it."""

from typing import Any

import pytest

from runner.api import compose_config
from runner.config.schema.plan import USUAL_RECIPES, Plan
from runner.planning.formats import find_format
from runner.planning.published_format import published_format
from runner.planning.recipes import recipes_of

pytestmark = pytest.mark.unit

MIXTURE = {"num_hidden_layers": 4, "num_local_experts": 8}
DENSE = {"num_hidden_layers": 4}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
NVFP4 = {"num_bits": 4, "type": "float", "group_size": 16}


def compressed(weights: dict[str, Any], few: Any = None, *ignore: str) -> dict[str, Any]:
    group = {"weights": weights, "input_activations": few, "targets": ["Linear"]}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", *ignore],
    }


def each(name: str, layers: int = 4) -> list[str]:
    return [f"model.layers.{i}.{name}" for i in range(layers)]


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
KIMI = ("re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*")
MIXED = {
    "quant_method": "modelopt",
    "quant_algo": "MIXED_PRECISION",
    "quantized_layers": {
        **{name: {"quant_algo": "NVFP4"} for name in each("block_sparse_moe.experts.0.w1")},
        **{name: {"quant_algo": "MXFP8"} for name in each("self_attn.q_proj")},
        **{name: {"quant_algo": "MXFP8"} for name in each("mlp.down_proj", 1)},
    },
}


@pytest.mark.parametrize(
    ("model", "quantization", "label"),
    [
        (DENSE, None, None),
        (DENSE, FP8, "fp8_block"),
        (DENSE, {**FP8, "weight_block_size": None}, "fp8_e4m3"),
        (DENSE, {**FP8, "weight_block_size": [32, 32]}, None),
        # Norms and the narrow matrices of an indexer are not attention, nor gates an MLP.
        (
            MIXTURE,
            {**FP8, "modules_to_not_convert": ["gate", *each("self_attn.kv_a_layernorm"),
             *each("self_attn.indexers_proj"), *each("mlp.gate.e_score_correction_bias")]},
            "fp8_block",
        ),
        ({**MIXTURE, "expert_dtype": "fp4"}, FP8, "mxfp4-experts+fp8_block"),
        (MIXTURE, {"quant_method": "mxfp4"}, "mxfp4-experts"),
        (MIXTURE, compressed(INT4, None, *KIMI), "w4a16-g32-experts"),
        (DENSE, compressed({**INT4, "symmetric": False}), "w4a16-g32-asym"),
        (DENSE, compressed({"num_bits": 8, "type": "int"}), "w8a16-per_channel"),
        (DENSE, compressed({"num_bits": 8, "type": "int"}, {"num_bits": 8}), "w8a8"),
        (DENSE, compressed({"num_bits": 8, "type": "float"}, {"num_bits": 8}), "fp8_e4m3"),
        (DENSE, compressed({"num_bits": 8, "type": "float"}), "fp8_e4m3_a16"),
        (DENSE, compressed(NVFP4, {"num_bits": 4}), "nvfp4_a4"),
        (DENSE, compressed({**NVFP4, "group_size": 32}), "mxfp4"),
        (DENSE, compressed(NVFP4, NVFP4, *each("self_attn*")), "nvfp4_a4-mlp"),
        # Of one layer alone: the whole is near enough.
        (DENSE, compressed(NVFP4, NVFP4, *each("self_attn*", 1)), "nvfp4_a4"),
        (MIXTURE, compressed(NVFP4, NVFP4, *each("self_attn*")), "nvfp4_a4-experts"),
        (
            {**MIXTURE, "n_shared_experts": 1},
            compressed(NVFP4, NVFP4, *each("self_attn*")),
            "nvfp4_a4-mlp",
        ),
        (
            {**MIXTURE, "n_shared_experts": 1},
            compressed(NVFP4, NVFP4, *each("self_attn*"), *each("mlp.shared_experts*")),
            "nvfp4_a4-experts",
        ),
        (MIXTURE, compressed(NVFP4, NVFP4, "re:.*experts.*"), None),
        (DENSE, {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, "w4a16-g128"),
        (DENSE, {"quant_method": "gptq", "bits": 8, "group_size": -1}, "w8a16-per_channel"),
        (
            DENSE, {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            "w4a16-g128-asym",
        ),
        (DENSE, {"quant_method": "bitsandbytes", "load_in_8bit": True}, "llm_int8"),
        (
            DENSE,
            {"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4",
             "bnb_4bit_use_double_quant": True},
            "nf4-dq",
        ),
        (DENSE, {"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8_e4m3"),
        (
            DENSE, {"quant_method": "modelopt", "quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"},
            "fp8_e4m3",
        ),
        # vLLM reads none of these in ModelOpt's layout, though integers in others.
        (DENSE, {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": 128}, None),
        (MIXTURE, MIXED, "nvfp4_a4-experts+mxfp8"),
        (DENSE, {"quant_method": "aqlm"}, None),
    ],
)  # fmt: skip
def test_config_json_tells_the_recipe(
    model: dict[str, Any], quantization: dict[str, Any] | None, label: str | None
) -> None:
    assert published_format({**model, "quantization_config": quantization}) == label
    # Of models with other parts than text it stands at the top, or with the text part.
    inside = {"text_config": {**model, "quantization_config": quantization}}
    assert published_format(inside) == label
    if label is not None:
        assert find_format(label).label == label


def test_the_rest_of_a_mixed_model_has_a_format_of_its_own() -> None:
    fmt = find_format("nvfp4_a4-experts+mxfp8")
    assert fmt.rest == find_format("mxfp8") and fmt.covers == ("experts",)


def test_a_model_s_own_recipe_comes_first_where_none_is_named() -> None:
    assert recipes_of(Plan(), None) == list(USUAL_RECIPES)
    assert recipes_of(Plan(), "mxfp4-experts") == ["mxfp4-experts", *USUAL_RECIPES]
    assert sorted(recipes_of(Plan(), "w8a8")) == sorted(USUAL_RECIPES)
    assert recipes_of(Plan(recipes=["bf16"]), "mxfp4-experts") == ["bf16"]
    assert compose_config(["model=gpt_oss_120b"]).model.published_as == "mxfp4-experts"
