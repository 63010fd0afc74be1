"""Whether logits are the output matrix' product alone, told by structure in every number format."""

from typing import Any

import pytest

from runner.engines.hf.head import is_linear_in_states
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
