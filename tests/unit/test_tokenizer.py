"""The tokenizer of a GGUF file, as its authors published it."""

from pathlib import Path
from typing import Any

import gguf
import pytest

from runner.models.tokenizer import gguf_tokenizer

pytestmark = pytest.mark.unit

TOKENS = ["<|end|>", "<|im|>", *"abĠ12", "ab", "Ġab", "12"]
MERGES = ["a b", "Ġ ab", "1 2"]


def reader(directory: Path, pre: str, kind: str = "gpt2") -> Any:
    path = directory / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_merges(MERGES)
    writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return gguf.GGUFReader(path)


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["ab", "Ġab", "1", "2", "<|im|>", "b"]),
        ("gpt-2", ["ab", "Ġab", "12", "<|im|>", "b"]),
    ],
)
def test_digits_are_pieces_where_the_file_says_so(
    tmp_path: Path, pre: str, pieces: list[str]
) -> None:
    tokenizer = gguf_tokenizer(reader(tmp_path, pre))
    ids = tokenizer("ab ab12<|im|>b")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == pieces
    assert tokenizer.decode(ids) == "ab ab12<|im|>b"
    assert not tokenizer.backend_tokenizer.model.byte_fallback


def test_other_kinds_are_left_to_transformers(tmp_path: Path) -> None:
    assert gguf_tokenizer(reader(tmp_path, "llama-bpe")) is None
    assert gguf_tokenizer(reader(tmp_path, "smollm", "llama")) is None
