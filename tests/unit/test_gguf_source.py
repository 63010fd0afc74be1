"""GGUF files as the source of a model: their heads, and what is refused."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from runner.data.models.gguf_config import architecture_of_gguf, check_readable
from runner.data.models.gguf_header import gguf_dtype, read_header
from runner.errors import UsageError

pytestmark = pytest.mark.unit


def write(path: Path, architecture: str = "gemma3", dtype: Any = np.float32, **said: Any) -> Path:
    """A file of one layer's head and an embedding."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(64)
    writer.add_rope_scaling_orig_ctx_len(8)
    for name, value in said.items():
        writer.add_uint32(f"{architecture}.{name}" if name != "split" else "split.count", value)
    writer.add_token_list(["<bos>", "a"])
    writer.add_tensor("token_embd.weight", np.ones((2, 32), dtype))
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_head_is_read_without_the_weights(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "a.gguf"))
    check_readable(header)
    assert header.fields["tokenizer.ggml.tokens"] == ["<bos>", "a"]
    assert header.tensors["token_embd.weight"].shape == (2, 32)
    shape = architecture_of_gguf(header)
    assert (shape.family, shape.head_dim, shape.vocab) == ("gemma3_text", 64, 2)
    assert (shape.tied_embeddings, shape.parameters) == (True, 2 * 32 + 32)


def test_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf")
    assert read_header(path).architecture == "gemma3"
    path.unlink()
    assert read_header(write(path, "llama")).architecture == "llama"


@pytest.mark.parametrize(("dtype", "stored"), [(np.float32, "float32"), (np.float16, "float16")])
def test_floats_keep_their_type(tmp_path: Path, dtype: Any, stored: str) -> None:
    assert gguf_dtype(read_header(write(tmp_path / "a.gguf", dtype=dtype)), "bfloat16") == stored


@pytest.mark.parametrize(
    ("architecture", "said", "message"),
    [
        ("mamba", {}, r"architecture mamba.*gemma3.*config\.json and safetensors"),
        ("gemma3", {"split": 3}, "one of 3 parts.*llama-gguf-split --merge"),
        ("gemma3", {"attention.temperature_length": 9}, r"gemma3\.attention\.temperature_length=9"),
        ("llama", {"expert_count": 8}, r"llama\.expert_count=8"),
        ("qwen3", {"rope.dimension_count": 32}, r"qwen3\.rope\.dimension_count=32"),
    ],
)
def test_what_would_be_another_model_is_refused(
    tmp_path: Path, architecture: str, said: dict[str, int], message: str
) -> None:
    path = write(tmp_path / "a.gguf", architecture, **said)
    with pytest.raises(UsageError, match=message):
        check_readable(read_header(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no such file", "does not begin with GGUF"),
        (b"GGUF\x01\0\0\0" + bytes(16), "version 1"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "broken"),
    ],
)
def test_no_gguf_file_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_header(path)


@pytest.mark.parametrize("left", [0.5, 0.98])
def test_file_that_is_cut_off_is_told(tmp_path: Path, left: float) -> None:
    path = write(tmp_path / "a.gguf")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    with pytest.raises(UsageError, match=r"truncated|broken"):
        read_header(path)
