"""GGUF files as models of transformers: every tensor and setting has its place, or is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from runner.data.models.gguf_config import check_readable, rope_parameters, settings
from runner.data.models.gguf_header import GgufHeader, GgufTensor, read_header
from runner.data.models.gguf_model import _fill, read_gguf_model
from runner.errors import StageError, UsageError

pytestmark = pytest.mark.unit

SAID: dict[str, Any] = {
    "context_length": 64, "block_count": 1, "embedding_length": 32, "feed_forward_length": 48,
    "attention.head_count": 2, "attention.head_count_kv": 1,
    "attention.layer_norm_rms_epsilon": 1e-5,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip
Tensors = dict[str, np.ndarray]


def head(architecture: str = "llama", *more: str, **said: Any) -> GgufHeader:
    """A head as a file would have it; ``rope__freq_base`` stands for ``rope.freq_base``."""
    fields = {**SAID, **{name.replace("__", "."): value for name, value in said.items()}}
    entry = GgufTensor((8, 32), 0, 0)
    return GgufHeader(
        Path("a.gguf"),
        {"general.architecture": architecture}
        | {f"{architecture}.{k}": value for k, value in fields.items() if value is not None},
        dict.fromkeys(("token_embd.weight", *more), entry),
    )


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (head(embedding_length=None), r"a\.gguf is incomplete: it lacks llama\.embedding_length"),
        (
            GgufHeader(Path("a.gguf"), head().fields, {"output.weight": GgufTensor((8, 32), 0, 0)}),
            r"a\.gguf is incomplete: it lacks token_embd\.weight",
        ),
        (head(rope__scaling__type="longrope"), r"llama\.rope\.scaling\.type=longrope, which is no"),
    ],
)
def test_what_is_absent_or_of_another_rule_is_refused(header: GgufHeader, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_readable(header)


def test_what_only_some_files_say_is_in_the_config() -> None:
    capped = settings(head("gemma2", final_logit_softcapping=30.0, attn_logit_softcapping=50.0))
    assert (capped["final_logit_softcapping"], capped["attn_logit_softcapping"]) == (30.0, 50.0)
    assert "attention_bias" not in settings(head())
    assert settings(head("llama", "blk.0.attn_q.bias"))["attention_bias"] is True
    assert "attention_bias" not in settings(head("qwen2", "blk.0.attn_q.bias")), "it always has"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {}),
        ({"type": "none", "factor": 4.0}, {}),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        # llama.cpp scales by a factor without a type too (``load_hparams``).
        ({"factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"factor": 0.0}, {}),
        (
            {"type": "yarn", "factor": 2.0, "original_context_length": 32},
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32},
        ),
    ],
)
def test_positions_are_scaled_as_llama_cpp_scales_them(
    said: dict[str, Any], expected: dict[str, Any]
) -> None:
    header = head(**{f"rope__scaling__{name}": value for name, value in said.items()})
    check_readable(header)
    plain = {"rope_type": "default", "rope_theta": 10000.0}
    assert rope_parameters(header, plain) == plain | expected
    local = {"rope_type": "default", "rope_theta": 500.0}
    by_layer = {"full_attention": plain, "sliding_attention": local}
    assert rope_parameters(header, by_layer) == {**by_layer, "full_attention": plain | expected}


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        attention_bias=True, tie_word_embeddings=False, rope_parameters=dict(LLAMA3),
    )  # fmt: skip
    made = LlamaForCausalLM(config)
    for name, tensor in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(tensor)
    return made


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys in llama.cpp's order, as its converter puts them."""
    halves = weights.reshape(heads, 2, -1, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def stored(model: Any) -> Tensors:
    """The model's tensors as llama.cpp's converter would store them."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    found: Tensors = {}
    for name, tensor in model.state_dict().items():
        part, _, last = name.rpartition(".")
        array = tensor.float().numpy()
        if part.endswith(("q_proj", "k_proj")):
            array = interleaved(array, 2 if part.endswith("q_proj") else 1)
        found[f"{names.get_name(part)}.{last}"] = np.ascontiguousarray(array)
    # Llama 3's rule (``Llama3RotaryEmbedding``): a factor of each pair's wavelength.
    waves = 2 * np.pi * LLAMA3["rope_theta"] ** (np.arange(8) / 8)
    smooth = np.clip((8192 / waves - 1) / 3, 0, 1)
    found["rope_freqs.weight"] = (1 / ((1 - smooth) / 8 + smooth)).astype(np.float32)
    return found


def write(path: Path, tensors: Tensors) -> GgufHeader:
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in SAID.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"llama.{name}", value)
    writer.add_float32("llama.rope.freq_base", LLAMA3["rope_theta"])
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_header(path)


def test_a_llama_3_with_biases_comes_back_tensor_by_tensor(model: Any, tmp_path: Path) -> None:
    found = read_gguf_model(write(tmp_path / "a.gguf", stored(model)), "float32")
    assert found.config.rope_parameters == LLAMA3
    wanted = model.state_dict()
    assert found.state_dict().keys() == wanted.keys()
    for name, tensor in found.state_dict().items():
        assert tensor.equal(wanted[name]), name


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: one for name, one in tensors.items() if name not in names}


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: change(tensors[name])}


def further(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, **dict.fromkeys(names, np.ones(32, np.float32))}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (further("blk.0.a"), StageError, r"llama has no place for its blk\.0\.a$"),
        (further(*"abcde"), StageError, "no place for its a, b, c and 2 others$"),
        (without("blk.0.ffn_up.weight"), StageError, r"mlp\.up_proj\.weight, which the file lacks"),
        (
            changed("blk.0.ffn_up.weight", lambda a: a[1:]),
            StageError,
            "has other shapes: .*up_proj",
        ),
        (
            changed("output_norm.weight", lambda a: a.astype(np.float64)),
            StageError,
            r"a\.gguf contains output_norm\.weight in F64, which cannot be dequantized",
        ),
        (changed("rope_freqs.weight", lambda a: a + 1), UsageError, "that are not Llama 3's"),
    ],
)
def test_tensors_that_are_not_those_of_the_architecture_are_refused(
    model: Any,
    tmp_path: Path,
    change: Callable[[Tensors], Tensors],
    error: type[Exception],
    said: str,
) -> None:
    header = write(tmp_path / "a.gguf", change(stored(model)))
    with pytest.raises(error, match=said):
        read_gguf_model(header, "float32")


def test_a_tensor_that_the_model_would_drop_is_refused(model: Any) -> None:
    tensors = {**model.state_dict(), "model.more.weight": model.lm_head.weight}
    with pytest.raises(StageError, match=r"no place for its model\.more\.weight"):
        _fill(model, tensors, head())
