"""Whether logits are the output matrix' product alone, told by structure in every number format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.engines.distributions import LinearHead
from runner.engines.hf.head import find_head, is_linear_in_states, read_head
from runner.engines.hf.model import HfModel, _cache_bytes
from runner.errors import StageError
from runner.evaluation.sensitivity.blockwise import Decoder

pytestmark = pytest.mark.unit

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
PLAIN = ("Llama", "Qwen2", "Qwen3", "Mistral", "Gemma", "Phi3", "Olmo2")
CHANGED = {
    "Gemma2": {"final_logit_softcapping": 30.0},
    "Cohere": {"logit_scale": 0.0625},
    "Granite": {"logits_scaling": 8.0},
}


def model(family: str, dtype: str, **settings: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **settings)
    made = getattr(transformers, f"{family}ForCausalLM")(config)
    return made.to(getattr(torch, dtype)).eval()


def ids(windows: int = 1) -> Any:
    import torch

    return torch.randint(1, 96, (windows, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", PLAIN)
def test_a_product_alone_is_recognised_and_taken_apart(family: str, dtype: str) -> None:
    found = model(family, dtype)
    assert is_linear_in_states(found, ids())
    assert Decoder(found, ids(3)).states.shape == (3, 16, 32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", CHANGED)
def test_scaled_and_capped_logits_are_told_apart(family: str, dtype: str) -> None:
    found = model(family, dtype, **CHANGED[family])
    assert not is_linear_in_states(found, ids())
    with pytest.raises(StageError, match="its logits are not the output embedding's product"):
        Decoder(found, ids(3))


def test_a_cap_that_hardly_bends_is_told_apart_in_bfloat16() -> None:
    """Its effect on small logits is less than a step of the type."""
    assert not is_linear_in_states(model("Gemma2", "bfloat16", final_logit_softcapping=1e4), ids())


def test_a_model_of_its_own_code_is_not_taken_apart() -> None:
    """It may show no head, or one that it does not call; its logits are taken as they are."""
    import torch
    from transformers.modeling_outputs import CausalLMOutput

    window = [int(token) for token in ids()[0]]
    plain = HfModel(model("Llama", "float32"), "cpu")
    expected = plain.token_losses(window)
    hidden, own = model("Llama", "float32"), model("Llama", "float32")
    hidden.get_output_embeddings = lambda: None

    def forward(input_ids: Any, **_: Any) -> CausalLMOutput:
        states = own.model(input_ids=input_ids).last_hidden_state
        return CausalLMOutput(logits=torch.nn.functional.linear(states, own.lm_head.weight))

    own.forward = forward
    for found in (hidden, own):
        assert not is_linear_in_states(found, ids())
        loaded = HfModel(found, "cpu")
        np.testing.assert_allclose(loaded.token_losses(window), expected, rtol=1e-6)
        told = loaded.distributions(window, 5, 0)
        assert (told.vocabulary, told.head) == (96, None)
        wanted = [*plain.distributions(window, 5, 0).chunks]
        np.testing.assert_allclose([*told.chunks], wanted, rtol=1e-5)


def test_a_head_is_found_where_it_is_stored_and_is_the_whole_of_it(tmp_path: Path) -> None:
    import torch

    found = model("Llama", "bfloat16")
    found.save_pretrained(tmp_path)
    head = find_head(found, tmp_path)
    assert head == LinearHead("lm_head.weight", "bfloat16")
    assert torch.equal(read_head(tmp_path, head, "cpu"), found.lm_head.weight)
    with pytest.raises(FileNotFoundError, match=r"has no tensor head\.weight"):
        read_head(tmp_path, LinearHead("head.weight", "bfloat16"), "cpu")
    with torch.no_grad():
        found.lm_head.weight[0, 0] += 1
    assert find_head(found, tmp_path) is None, "changed since it was read"


def test_a_head_with_a_bias_is_none_that_a_matrix_stands_for(tmp_path: Path) -> None:
    found = model("Phi", "float32")
    found.save_pretrained(tmp_path)
    assert found.lm_head.bias is not None
    assert find_head(found, tmp_path) is None


def test_a_cache_that_is_kept_in_an_unknown_way_has_no_size() -> None:
    """As tuples, by a model's own code: better none than a size of zero."""
    import torch

    loaded = HfModel(None, "cpu")
    assert loaded.measured_kv_cache_bytes_per_token() is None, "nothing was generated yet"
    layer = (torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8))
    loaded._kv_cache = (_cache_bytes((layer,)), 5)
    assert loaded.measured_kv_cache_bytes_per_token() is None
