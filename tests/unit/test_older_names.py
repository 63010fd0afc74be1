"""What transformers 5 writes has the names that version 4 looks for, and reads as before."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.data.models.older_names import add_older_config_names, add_older_tokenizer_names

pytestmark = pytest.mark.unit

THETA = 54321.0
FACTORS = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
TRAINED = {"original_max_position_embeddings": 256}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **TRAINED}
TYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "beta_fast": 30.0, **TRAINED},
    "llama3": LLAMA3,
    "longrope": {"factor": 4.0, **FACTORS, **TRAINED},
}


def older(config: dict[str, Any]) -> dict[str, Any]:
    add_older_config_names(config)
    return config


@pytest.mark.parametrize("kind", TYPES)
def test_rotary_parameters_of_every_type_are_written_by_their_older_names(kind: str) -> None:
    rope = {"rope_type": kind, "rope_theta": THETA, **TYPES[kind]}
    written = older({"model_type": "llama", "rope_parameters": dict(rope)})
    assert written["rope_parameters"] == rope
    assert written["rope_theta"] == THETA
    expected = {"rope_type": kind, **TYPES[kind]} if TYPES[kind] else None
    assert written.get("rope_scaling") == expected


def test_parameters_for_each_type_of_layer_keep_their_own_theta() -> None:
    layers = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    text = {"model_type": "gemma3_text", "rope_parameters": layers}
    written = older({"model_type": "gemma3", "text_config": text})["text_config"]
    assert (written["rope_theta"], written["rope_local_base_freq"]) == (1e6, 1e4)
    assert written["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    # A model of version 5 alone would take a scaling for all its layers'.
    assert set(older({"model_type": "new", "rope_parameters": layers})) == {
        "model_type", "rope_parameters",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "rope", "names"),
    [
        ("gpt_neox", {"partial_rotary_factor": 0.5},
         {"rotary_emb_base": THETA, "rotary_pct": 0.5}),
        ("glm4", {"partial_rotary_factor": 0.5},
         {"rope_theta": THETA, "partial_rotary_factor": 0.5}),
        ("olmo2", {"rope_type": "linear", "factor": 2.0},
         {"rope_theta": THETA, "rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("phi3", {"rope_type": "longrope", **FACTORS, **TRAINED},
         {"rope_scaling": {"type": "longrope", **FACTORS}, **TRAINED}),
    ],
)  # fmt: skip
def test_models_with_names_of_their_own_get_them(
    model_type: str, rope: dict[str, Any], names: dict[str, Any]
) -> None:
    rope = {"rope_type": "default", "rope_theta": THETA, **rope}
    written = older({"model_type": model_type, "rope_parameters": rope})
    assert {name: written.get(name) for name in names} == names


READ = [
    *((model, kind) for model in ("llama", "gpt_neox", "glm4", "gemma3_text") for kind in TYPES),
    ("olmo3", "yarn"), ("phi3", "default"), ("phi3", "longrope"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "kind"), READ)
def test_version_5_reads_both_names_as_it_read_one(
    model_type: str, kind: str, tmp_path: Path
) -> None:
    from transformers import AutoConfig

    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": THETA, **TYPES[kind]}
    if model_type == "phi3":
        rope.pop("factor", None)
    if model_type in ("gemma3_text", "olmo3"):
        local = {"rope_type": "default", "rope_theta": 1e3}
        rope = {"full_attention": rope, "sliding_attention": local}
    # AutoConfig fills in what is left out.
    first = AutoConfig.for_model(model_type, rope_parameters=rope)
    first.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(older(json.loads(path.read_text()))))
    again = AutoConfig.from_pretrained(tmp_path)
    layers = [first.rope_parameters, again.rope_parameters]
    for one in (part for all in layers for part in (all, *all.values()) if isinstance(part, dict)):
        one.pop("type", None)
    assert again.rope_parameters == first.rope_parameters


def test_torch_dtype_says_what_dtype_says() -> None:
    nested = {"dtype": "float32", "torch_dtype": "bfloat16"}
    written = older({"dtype": "bfloat16", "torch_dtype": "float32", "text_config": nested})
    assert written["torch_dtype"] == "bfloat16"
    assert written["text_config"] == {"dtype": "float32", "torch_dtype": "float32"}
    assert older({"torch_dtype": "float16"})["dtype"] == "float16"


def test_names_that_are_there_stay() -> None:
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5.0}
    kept = {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 5.0}
    assert older({"rope_parameters": rope, **kept}) == {"rope_parameters": rope, **kept}
    assert older({"hidden_size": 8}) == {"hidden_size": 8}


def test_names_without_a_value_get_one() -> None:
    rope = {"rope_type": "default", "rope_theta": 5.0}
    assert older({"rope_parameters": rope, "rope_theta": None})["rope_theta"] == 5.0


def test_experts_are_counted_by_both_names() -> None:
    assert older({"model_type": "qwen3_moe", "num_local_experts": 4})["num_experts"] == 4


def test_infinity_is_written_as_version_4_does() -> None:
    written = older({"time_step_limit": [0.0, {"__float__": "Infinity"}]})
    assert json.dumps(written["time_step_limit"]) == "[0.0, Infinity]"


def test_tokenizer_settings_name_a_class_and_fields_that_version_4_knows() -> None:
    settings: dict[str, Any] = {
        "tokenizer_class": "TokenizersBackend",
        "extra_special_tokens": ["<a>"],
        "eos_token": "</s>",
    }
    add_older_tokenizer_names(settings)
    assert settings == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<a>"],
        "eos_token": "</s>",
    }
    kept = {"tokenizer_class": "LlamaTokenizer", "extra_special_tokens": {"image_token": "<i>"}}
    settings = dict(kept)
    add_older_tokenizer_names(settings)
    assert settings == kept


def test_types_of_layers_have_their_older_names() -> None:
    types = ["linear_attention", "full_attention", "other"]
    written = older({"model_type": "granitemoehybrid", "layer_types": types})
    assert written["layer_types"] == ["mamba", "attention", "other"]
    assert older({"model_type": "llama", "layer_types": types})["layer_types"] == types
    assert "layer_types" not in older({"model_type": "granitemoehybrid"})
