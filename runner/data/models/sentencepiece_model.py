"""A GGUF file's SentencePiece vocabulary as ``tokenizer.model`` again.

llama.cpp's converter takes Gemma's and Llama 2's vocabularies from that file alone.
"""

import json
import struct
from pathlib import Path
from typing import Any

from runner.data.models.gguf_header import GgufHeader
from runner.data.models.tokenizer import (
    CONTROL,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    drops_spaces_after,
)

_BPE = 2
"""``TrainerSpec.ModelType``."""
_NORMAL = 1


def write_sentencepiece(header: GgufHeader, destination: Path) -> None:
    """Write ``tokenizer.model`` and note what its types leave out, where the file has such pieces.

    The converter reads user-defined tokens off ``added_tokens_decoder`` of tokenizer_config.json.
    """
    fields = {
        name.removeprefix("tokenizer.ggml."): value
        for name, value in header.fields.items()
        if name.startswith("tokenizer.ggml.")
    }
    if fields.get("model") != "llama":
        return
    (destination / "tokenizer.model").write_bytes(_model(header, fields))
    path = destination / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8"))
    spaced = fields.get("add_space_prefix") is not False
    settings["add_prefix_space"] = spaced
    settings["added_tokens_decoder"] = {
        str(row): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": drops_spaces_after(header, token),
            "single_word": False,
            "special": kind != USER_DEFINED,
        }
        for row, (token, kind) in enumerate(
            zip(fields["tokens"], fields.get("token_type") or [], strict=False)
        )
        if kind in (CONTROL, UNKNOWN, USER_DEFINED)
    }
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _model(header: GgufHeader, fields: dict[str, Any]) -> bytes:
    """A ``ModelProto`` (sentencepiece_model.proto of github.com/google/sentencepiece)."""
    tokens, unknown = fields["tokens"], header.special_token("unknown")
    kinds = fields.get("token_type") or [_NORMAL] * len(tokens)
    pieces = []
    for row, (token, score, kind) in enumerate(zip(tokens, fields["scores"], kinds, strict=True)):
        # Exactly one piece is the unknown one, or SentencePiece refuses the file.
        stored_kind = CONTROL if kind == UNKNOWN else kind
        spelled = token.replace(" ", SPACE) if kind == USER_DEFINED else token
        piece = _message(1, spelled.encode()) + _float(2, score)
        pieces.append(_message(1, piece + _integer(3, UNKNOWN if row == unknown else stored_kind)))
    trainer = _integer(3, _BPE) + _integer(4, len(tokens)) + _integer(35, 1)
    for number, name in ((40, "unknown"), (41, "bos"), (42, "eos"), (43, "padding")):
        special = header.special_token(name)
        trainer += _integer(number, -1 if special is None else special)
    spaced = fields.get("add_space_prefix") is not False
    normalizer = (
        _message(1, b"identity") + _integer(3, int(spaced)) + _integer(4, 0) + _integer(5, 1)
    )
    return b"".join(pieces) + _message(2, trainer) + _message(3, normalizer)


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _float(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value & (1 << 64) - 1)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
