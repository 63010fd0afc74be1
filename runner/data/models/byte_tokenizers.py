"""Byte-level tokenizers, one token per byte, for generated models."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.config.schema.model import ByteTokenizer
from runner.errors import UsageError

_BEGIN, _END, _UNKNOWN = "<s>", "</s>", "<unk>"
_BYTES = 256
_MERGES = (("h", "e"), ("Ġ", "t"))
"""llama.cpp reads no byte-level tokenizer without some."""
_BY_LLAMAS_NAMES = (ByteTokenizer.byte_fallback, ByteTokenizer.sentencepiece)


def byte_tokenizer(
    kind: ByteTokenizer, rows: int, context: int | None, special: Sequence[str] = ()
) -> Any:
    """A fast tokenizer: tokens for begin and end, then a token for each byte.

    Args:
        kind: Which of two ways bytes are named in.
        rows: Of the model's embedding. By Llama's names there are as many entries, since
            llama.cpp's converter takes no other; ``byte_level`` leaves rows unused, as the
            padded vocabularies of many models do.
        context: Longest sequence that the model takes.
        special: More special tokens.

    Raises:
        UsageError: There is no room for every byte.
    """
    more = {ByteTokenizer.sentencepiece: 1, ByteTokenizer.byte_level: len(_MERGES)}
    smallest = 2 + _BYTES + more.get(kind, 0) + len(special)
    if rows < smallest:
        raise UsageError(f"vocab={rows} is too small: a byte-level tokenizer needs {smallest}")
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if kind in _BY_LLAMAS_NAMES:
        vocabulary = {name: row for row, name in enumerate(_llamas_names(kind, rows, special))}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        names = [_BEGIN, _END, *alphabet, *("".join(merge) for merge in _MERGES)]
        vocabulary = {name: row for row, name in enumerate(names)}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[*_MERGES]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=_BEGIN, eos_token=_END, model_max_length=context
    )


def write_sentencepiece(rows: int, special: Sequence[str], destination: Path) -> None:
    """Write ``tokenizer.model``: the same tokens for readers that look for a SentencePiece file."""
    names = _llamas_names(ByteTokenizer.sentencepiece, rows, special)
    kinds = dict.fromkeys((_BEGIN, _END, *special), _CONTROL) | {_UNKNOWN: _UNKNOWN_KIND}
    content = b""
    for row, name in enumerate(names):
        kind = _BYTE if name.startswith("<0x") else kinds.get(name, _UNUSED)
        piece = _bytes(1, name.encode()) + _float(2, -float(row)) + _integer(3, kind)
        content += _bytes(1, piece)
    trainer = _integer(3, _BPE) + _integer(4, rows) + _integer(35, 1)
    trainer += _integer(40, 2 + _BYTES) + _integer(41, 0) + _integer(42, 1)
    content += _bytes(2, trainer) + _bytes(3, _integer(3, 0) + _integer(4, 0))
    (destination / "tokenizer.model").write_bytes(content)


def _llamas_names(kind: ByteTokenizer, rows: int, special: Sequence[str]) -> list[str]:
    names = [_BEGIN, _END, *(f"<0x{byte:02X}>" for byte in range(_BYTES))]
    if kind is ByteTokenizer.sentencepiece:
        names.append(_UNKNOWN)
    names += special
    return names + [f"<unused_{row}>" for row in range(len(names), rows)]


_UNKNOWN_KIND, _CONTROL, _UNUSED, _BYTE = 2, 3, 5, 6
"""Kinds of pieces in sentencepiece_model.proto, whose fields the numbers here are."""
_BPE = 2


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """A whole number as protocol buffers write it."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
