"""What safetensors and GGUF files say of their tensors, read without loading any."""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.models.gguf_header import read_header

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the text begins that Git LFS leaves where a file is to be fetched."""
POINTER_COMPLAINT = "is a Git LFS pointer, not the file itself: fetch it by git lfs pull"
_MOST_HEADER_BYTES = 100_000_000
"""What the format's own reader takes at most."""


@dataclass(frozen=True)
class Header:
    """One tensor: its type by the file format's name (``BF16``, ``Q4_K``), and its size."""

    dtype: str
    elements: int
    bytes: int
    shape: tuple[int, ...] = ()


def read_headers(file: Path) -> dict[str, Header]:
    """Header of every tensor in a safetensors or GGUF file, by name.

    Format: https://github.com/huggingface/safetensors.

    Raises:
        ValueError: It is no such file, or not all of it is there; the message goes on after
            the file's name.
    """
    if file.suffix == ".gguf":
        return _gguf(file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if start and LFS_POINTER.startswith(start):
            raise ValueError(POINTER_COMPLAINT)
        (length,) = struct.unpack("<Q", start) if len(start) == 8 else (0,)
        if length > min(size, _MOST_HEADER_BYTES) - 8:
            length = 0
        text = stream.read(length)
    if not length:
        raise ValueError("is no safetensors file, or cut off in its header: fetch it again")
    try:
        content = json.loads(text)
        headers = {name: _header(entry) for name, entry in content.items() if name[:2] != "__"}
        ends = [e["data_offsets"][1] for name, e in content.items() if name[:2] != "__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("is no safetensors file: its header cannot be read") from None
    promised = 8 + length + max(ends, default=0)
    if promised != size:
        raise ValueError(
            f"is {'cut off' if promised > size else 'damaged'}: its header promises {promised} "
            f"bytes, {size} are there; fetch it again"
        )
    return headers


def _header(entry: dict[str, Any]) -> Header:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    return Header(str(entry["dtype"]), math.prod(shape), end - begin, shape)


def _gguf(file: Path) -> dict[str, Header]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    # The package's own reader takes seconds for a large vocabulary.
    try:
        tensors = read_header(file).tensors
    except UsageError as error:
        raise ValueError(f"cannot be read: {error}") from None
    headers = {}
    for name, tensor in tensors.items():
        kind = GGMLQuantizationType(tensor.type)
        elements = math.prod(tensor.shape)
        block, size = GGML_QUANT_SIZES[kind]
        # ggml has columns first.
        headers[name] = Header(kind.name, elements, elements // block * size, tensor.shape[::-1])
    return headers
