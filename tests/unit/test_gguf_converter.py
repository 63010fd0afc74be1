"""What llama.cpp's converter is told of tokenizers and configs that it does not know."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.engines.base import LoadSpec
from runner.engines.vllm.settings import Vllm, engine_arguments
from runner.methods.backends.gguf_converter import add_older_names, pre_tokenizer_name

pytestmark = pytest.mark.unit

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PLAIN = {**BYTES, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")


def split(pattern: str, behavior: str = "Isolated") -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def rules(*steps: dict[str, Any], normalizer: str | None = None) -> dict[str, Any]:
    kind = None if normalizer is None else {"type": normalizer}
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps]}, "normalizer": kind}


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        ({"pre_tokenizer": BYTES}, "gpt-2"),
        (rules(BYTES), "gpt-2"),
        (rules(DIGITS, BYTES), "smollm"),
        (rules(split(LLAMA3), PLAIN), "llama-bpe"),
        (rules(split(QWEN2), PLAIN, normalizer="NFC"), "qwen2"),
        # Another prefix, pattern, way to split or normalizer is another tokenizer.
        ({"pre_tokenizer": {**BYTES, "add_prefix_space": True}}, None),
        (rules({**DIGITS, "individual_digits": False}, BYTES), None),
        (rules(split(LLAMA3 + "|x"), PLAIN), None),
        (rules(split(LLAMA3, "Removed"), PLAIN), None),
        (rules(split(LLAMA3), BYTES), None),
        (rules(BYTES, normalizer="Lowercase"), None),
        (rules(split(QWEN2), DIGITS, PLAIN), None),
        ({"pre_tokenizer": {"type": "Whitespace"}}, None),
        ({}, None),
    ],
)
def test_a_pre_tokenizer_is_known_by_its_rules(tokenizer: dict[str, Any], name: str | None) -> None:
    assert pre_tokenizer_name(json.loads(json.dumps(tokenizer))) == name


def test_what_transformers_does_not_save_is_said_to_vllm(tmp_path: Path) -> None:
    spec = LoadSpec(tmp_path, "float", "cpu", "auto", False, 1, Vllm(name="vllm"))
    for config, added in (
        ({"model_type": "deepseek_v3", "topk_method": None}, {"topk_method", "scoring_func"}),
        ({"model_type": "deepseek_v3", "topk_method": "greedy"}, {"scoring_func"}),
        ({"model_type": "llama"}, set()),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert set(engine_arguments(spec).get("hf_overrides", ())) == added


def test_names_that_transformers_has_given_up_are_added_and_none_replaced() -> None:
    assert add_older_names({"model_type": "gpt2", "n_positions": 64})["n_ctx"] == 64
    rotary = {"model_type": "gpt_neox", "rope_parameters": {"partial_rotary_factor": 0.25}}
    assert add_older_names(rotary)["rotary_pct"] == 0.25
    assert add_older_names({"model_type": "deepseek_v3"})["scoring_func"] == "sigmoid"
    assert add_older_names({"model_type": "deepseek_v3", "scoring_func": "softmax"})[
        "scoring_func"
    ] == ("softmax")
    falcon = {"model_type": "falcon", "multi_query": True, "num_kv_heads": 71}
    assert add_older_names(falcon)["num_kv_heads"] == 1
    later = {**falcon, "new_decoder_architecture": True, "num_kv_heads": 8}
    assert add_older_names(later)["num_kv_heads"] == 8
    llama = {"model_type": "llama", "num_key_value_heads": 2}
    assert add_older_names(dict(llama)) == llama
