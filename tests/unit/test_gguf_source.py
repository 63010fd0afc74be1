"""GGUF files as the source of a model: their heads, and what is refused."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from runner.data.models.gguf_config import architecture_of_gguf, check_readable
from runner.data.models.gguf_file import only_gguf
from runner.data.models.gguf_header import gguf_dtype, read_header
from runner.data.models.headers import read_headers
from runner.errors import StageError, UsageError
from runner.util.given import FileFault
from tests.hostile_files import gguf as gguf_bytes

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
    writer.add_array("general.flags", [True, False])
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


def entry(dimensions: int = 1, kind: int = 0) -> bytes:
    """The table's entry of a tensor ``a`` of single elements, and its bytes."""
    sizes = struct.pack(f"<{dimensions}Q", *[1] * dimensions)
    return (
        struct.pack("<Q1sI", 1, b"a", dimensions) + sizes + struct.pack("<IQ", kind, 0) + bytes(99)
    )


def test_head_is_read_without_the_weights(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "a.gguf"))
    check_readable(header)
    assert header.fields["tokenizer.ggml.tokens"] == ["<bos>", "a"]
    assert header.fields["general.flags"] == [True, False]
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
        (gguf_bytes(tensors=1, after=entry(dimensions=5)), "broken"),
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


def test_a_type_that_no_reader_has_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf_bytes(tensors=1, after=entry(kind=0)))
    assert read_headers(path)["a"].dtype == "F32"
    (tmp_path / "b.gguf").write_bytes(gguf_bytes(tensors=1, after=entry(kind=999)))
    with pytest.raises(FileFault, match="contains a in ggml type 999, which is unknown"):
        read_headers(tmp_path / "b.gguf")


def test_the_file_of_a_checkpoint_is_the_only_one(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"contains 0 \.gguf files, not one"):
        only_gguf(tmp_path)
    (tmp_path / "a.gguf").touch()
    assert only_gguf(tmp_path) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").touch()
    with pytest.raises(StageError, match="contains 2"):
        only_gguf(tmp_path)
