"""The header of a safetensors file, validated against the file's size.

Format: https://github.com/huggingface/safetensors.
"""

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from runner.data.models.header import Header
from runner.util.given import FileFault, open_regular, shown

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the text begins that Git LFS leaves where a file is to be fetched."""
POINTER_COMPLAINT = "is a Git LFS pointer, not the file itself: run git lfs pull"
_MOST_HEADER_BYTES = 100_000_000
"""What the format's own reader takes at most."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Of a number of each type of the format."""
_MOST_DIMENSIONS = 16


def read_safetensors_header(file: Path) -> dict[str, Header]:
    """Header of every tensor, by name.

    Raises:
        FileFault: It is no such file, not all of it is there, or its head says what cannot be.
    """
    with open_regular(file) as stream:
        size = file.stat().st_size
        start = stream.read(8)
        if start and LFS_POINTER.startswith(start):
            raise FileFault(file, POINTER_COMPLAINT)
        (length,) = struct.unpack("<Q", start) if len(start) == 8 else (0,)
        if length > min(size, _MOST_HEADER_BYTES) - 8:
            length = 0
        text = stream.read(length)
    if not length:
        raise FileFault(
            file, "is not a safetensors file, or is truncated in its header: download it again"
        )
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
        _require_texts(content.get("__metadata__"))
        entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
        headers = {name: _header(name, entry) for name, entry in entries.items()}
    except _Damaged as error:
        raise FileFault(file, f"is damaged: {error}; download it again") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FileFault(file, "is not a safetensors file: its header cannot be read") from None
    promised = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if promised != size:
        raise FileFault(
            file,
            f"is {'truncated' if promised > size else 'damaged'}: its header declares {promised} "
            f"bytes, {size} are there; download it again",
        )
    _require_apart(file, entries)
    return headers


class _Damaged(Exception):
    """What is wrong in the header."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise _Damaged(f"its header has {shown(twice)} twice")
    return unique


def _require_texts(metadata: Any) -> None:
    if metadata is not None and not all(isinstance(value, str) for value in metadata.values()):
        raise _Damaged("its __metadata__ contains values that are not strings")


def _header(name: str, entry: dict[str, Any]) -> Header:
    kind, shape = entry["dtype"], entry["shape"]
    begin, end = entry["data_offsets"]
    if kind not in _BITS:
        raise _Damaged(f"{shown(name)} is of a type {shown(kind)} that is unknown")
    if not _are_sizes(shape) or not _are_sizes([begin, end]) or len(shape) > _MOST_DIMENSIONS:
        raise _Damaged(f"the shape or the place of {shown(name)} must consist of whole numbers")
    elements = math.prod(shape)
    if elements * _BITS[kind] != 8 * (end - begin):
        raise _Damaged(
            f"{shown(name)} of {kind} and shape {shown(shape)} does not match its {end - begin} "
            "bytes"
        )
    return Header(kind, elements, end - begin, tuple(shape))


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in values)


def _require_apart(file: Path, entries: dict[str, Any]) -> None:
    """See that tensors lie side by side: none in another, nothing between them."""
    at = 0
    places = sorted((tuple(entry["data_offsets"]), name) for name, entry in entries.items())
    for (begin, end), name in places:
        if begin != at:
            where = "in another tensor" if begin < at else "after bytes that belong to no tensor"
            raise FileFault(file, f"is damaged: {shown(name)} lies {where}; download it again")
        at = end
