"""The tokenizer of a GGUF file, as its authors published it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from runner.data.models.gguf_header import GgufHeader, read_header
from runner.data.models.sentencepiece_model import write_sentencepiece
from runner.data.models.tokenizer import gguf_tokenizer
from runner.errors import StageError

pytestmark = pytest.mark.unit

TOKENS = ["<|end|>", "<|im|>", *"abĠ12", "ab", "Ġab", "12"]
MERGES = ["a b", "Ġ ab", "1 2"]
PIECES = [
    ("<bos>", 3, -1000.0), ("<unk>", 3, -1000.0), ("  ", 4, -1000.0), ("\n", 4, -1000.0),
    *((f"<0x{byte:02X}>", 6, 0.0) for byte in range(256)),
    ("▁ab", 1, -1.0), ("bc", 1, -2.0), ("▁a", 1, -3.0), ("▁", 1, -9.0), ("a", 1, -9.0),
    ("b", 1, -9.0), ("c", 1, -9.0), ("aa", 1, -4.0),
]  # fmt: skip
"""Text, type and score of Gemma-like pieces: 4 is user-defined, 6 a byte."""


def header(directory: Path, fill: Callable[[Any], None]) -> GgufHeader:
    path = directory / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return read_header(path)


def byte_level(pre: str, kind: str = "gpt2", bos: bool = False) -> Callable[[Any], None]:
    def fill(writer: Any) -> None:
        writer.add_tokenizer_model(kind)
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(TOKENS)
        writer.add_token_merges(MERGES)
        writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
        writer.add_unk_token_id(0)
        if bos:
            writer.add_bos_token_id(1)

    return fill


def sentencepiece(spaced: bool) -> Callable[[Any], None]:
    def fill(writer: Any) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([text for text, *_ in PIECES])
        writer.add_token_types([kind for _, kind, _ in PIECES])
        writer.add_token_scores([score for *_, score in PIECES])
        writer.add_bos_token_id(0)
        writer.add_unk_token_id(1)
        writer.add_add_space_prefix(spaced)

    return fill


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["ab", "Ġab", "1", "2", "<|im|>", "b"]),
        ("gpt-2", ["ab", "Ġab", "12", "<|im|>", "b"]),
        ("qwen2", ["ab", "Ġab", "1", "2", "<|im|>", "b"]),
        ("llama-bpe", ["ab", "Ġab", "12", "<|im|>", "b"]),
    ],
)
def test_digits_are_pieces_where_the_file_says_so(
    tmp_path: Path, pre: str, pieces: list[str]
) -> None:
    tokenizer = gguf_tokenizer(header(tmp_path, byte_level(pre)))
    ids = tokenizer("ab ab12<|im|>b")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == pieces
    assert tokenizer.decode(ids) == "ab ab12<|im|>b"
    assert not tokenizer.backend_tokenizer.model.byte_fallback


@pytest.mark.parametrize(("pre", "put"), [("llama-bpe", True), ("qwen2", False)])
def test_bos_is_put_where_llama_cpp_puts_it_unasked(tmp_path: Path, pre: str, put: bool) -> None:
    tokenizer = gguf_tokenizer(header(tmp_path, byte_level(pre, bos=True)))
    assert (tokenizer("ab")["input_ids"][0] == 1) is put


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("Phi-3 mini", ["<s>", "<|end|>", "▁ab", "<s>", "▁", "▁", "c", "<unk>", "▁a"]),
        ("another", ["<s>", "<|end|>", "▁", "▁ab", "<s>", "▁", "▁", "c", "<unk>", "▁a"]),
    ],
)
def test_what_a_file_leaves_out_is_as_llama_cpp_has_it(
    tmp_path: Path, name: str, pieces: list[str]
) -> None:
    """Which tokens are special and that BOS begins a text; Phi-3's swallow spaces behind them."""

    def fill(writer: Any) -> None:
        writer.add_name(name)
        writer.add_tokenizer_model("llama")
        told = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0), ("<|end|>", 3, 0.0)]
        told += PIECES[4:]
        writer.add_token_list([text for text, *_ in told])
        writer.add_token_types([kind for _, kind, _ in told])
        writer.add_token_scores([score for *_, score in told])

    found = header(tmp_path, fill)
    assert [found.special_token(kind) for kind in ("unknown", "bos", "eos", "padding")] == [
        0, 1, 2, None,
    ]  # fmt: skip
    tokenizer = gguf_tokenizer(found)
    made = tokenizer.convert_ids_to_tokens(tokenizer("<|end|> ab<s> c<unk>a")["input_ids"])
    assert made == pieces
    assert tokenizer("ab")["input_ids"][0] == 1


def test_kinds_that_are_not_known_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"vocabulary\.gguf.*with the pre-tokenizer nobody's.*directory"
    ):
        gguf_tokenizer(header(tmp_path, byte_level("nobody's")))
    with pytest.raises(StageError, match="tokenizer of kind bert"):
        gguf_tokenizer(header(tmp_path, byte_level("smollm", "bert")))


def test_pieces_without_scores_are_refused(tmp_path: Path) -> None:
    def fill(writer: Any) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([text for text, *_ in PIECES])

    with pytest.raises(
        StageError, match=r"vocabulary\.gguf has SentencePiece tokens without scores"
    ):
        gguf_tokenizer(header(tmp_path, fill))


def test_a_piece_that_is_there_twice_counts_once_as_its_last(tmp_path: Path) -> None:
    """As llama.cpp's map from a text to its id has it: with that one's score."""

    def fill(writer: Any) -> None:
        writer.add_tokenizer_model("llama")
        told = [*PIECES, ("aa", 1, -0.5)]
        writer.add_token_list([text for text, *_ in told])
        writer.add_token_types([kind for _, kind, _ in told])
        writer.add_token_scores([score for *_, score in told])
        writer.add_bos_token_id(0)
        writer.add_unk_token_id(1)
        writer.add_add_space_prefix(False)

    tokenizer = gguf_tokenizer(header(tmp_path, fill))
    assert tokenizer("aab")["input_ids"] == [0, len(PIECES), PIECES.index(("b", 1, -9.0))]
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert [pair for pair in merges if pair == ["a", "a"]] == [["a", "a"]]
    assert merges[0] == ["a", "a"], "the best score is first"


@pytest.mark.parametrize(
    ("spaced", "text", "pieces"),
    [
        (False, "abc", ["<bos>", "a", "bc"]),
        (True, "abc", ["<bos>", "▁a", "bc"]),
        (False, "ab  abc\n\nc", ["<bos>", "a", "b", "  ", "a", "bc", "\n", "\n", "c"]),
        (False, "c abé", ["<bos>", "c", "▁ab", "<0xC3>", "<0xA9>"]),
        (False, "aaa", ["<bos>", "aa", "a"]),
    ],
)
def test_pieces_merge_by_score_and_user_defined_ones_stand_first(
    tmp_path: Path, spaced: bool, text: str, pieces: list[str]
) -> None:
    tokenizer = gguf_tokenizer(header(tmp_path, sentencepiece(spaced)))
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == pieces
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_sentencepiece_file_has_the_same_pieces(tmp_path: Path) -> None:
    """Read back by SentencePiece's own library where it is installed, as llama.cpp's does."""
    library = pytest.importorskip("sentencepiece")
    found = header(tmp_path, sentencepiece(spaced=False))
    gguf_tokenizer(found).save_pretrained(tmp_path)
    write_sentencepiece(found, tmp_path)
    processor = library.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for row, (text, _, score) in enumerate(PIECES):
        assert processor.id_to_piece(row) == text.replace(" ", "▁")
        assert processor.get_score(row) == score
    assert processor.is_unknown(1)
    assert processor.is_control(0)
    assert processor.is_byte(4)
    assert processor.encode("c ab") == [PIECES.index(("c", 1, -9.0)), 260]
