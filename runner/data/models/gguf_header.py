"""The header of a GGUF file: metadata and tensor shapes, without torch or numpy."""

import functools
import math
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from runner.util.given import FileFault, open_regular, require_regular, shown

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""Formats of ``struct`` by the number of a value's type in the file."""
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24),
    8: (32, 34), 20: (32, 18), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176),
    14: (256, 210), 23: (256, 136),
}  # fmt: skip
"""Elements and bytes of a block, by ggml's number of the type (``GGML_QUANT_SIZES``)."""
_FLOATS = {0: "float32", 1: "float16"}
_ALIGNMENT = 32
_SPECIAL_BY_DEFAULT: dict[str | None, dict[str, int]] = {
    "llama": {"unknown": 0, "bos": 1, "eos": 2},
}
"""Ids of special tokens where a file does not say, by its kind of tokenizer, as in llama.cpp."""
_FIELD_BYTES, _TENSOR_BYTES, _STRING_BYTES = 13, 24, 8
"""What a field, an entry of the table and a string take at least."""
_MOST_DIMENSIONS = 4
_WIDEST_ALIGNMENT = 1 << 20
_DEEPEST = 4
"""Levels of arrays in arrays."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class GgufTensor:
    """One entry of the file's table of tensors."""

    shape: tuple[int, ...]
    """Rows first, as torch has it; the file has it the other way round."""
    type: int
    """ggml's number of the type: 0 float32, 1 float16, 30 bfloat16, others blocks."""
    offset: int
    """Where its first byte lies in the file."""


@dataclass(frozen=True)
class GgufHeader:
    """Metadata and the table of tensors."""

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture (``general.architecture``)."""
        return str(self.fields.get("general.architecture", ""))

    def special_token(self, name: str) -> int | None:
        """Id of the ``bos``, ``eos``, ``unknown`` or ``padding`` token, if there is one."""
        row = self.fields.get(f"tokenizer.ggml.{name}_token_id")
        if row is None:
            kind = self.fields.get("tokenizer.ggml.model")
            row = _SPECIAL_BY_DEFAULT.get(kind, {}).get(name)
        size = len(self.fields.get("tokenizer.ggml.tokens") or [])
        return row if type(row) is int and 0 <= row < size else None

    def of_architecture(self) -> dict[str, Any]:
        """Fields of the architecture, without its name before them."""
        prefix = f"{self.architecture}."
        return {
            name.removeprefix(prefix): value
            for name, value in self.fields.items()
            if name.startswith(prefix)
        }


def gguf_dtype(header: GgufHeader, otherwise: str) -> str:
    """Torch dtype name that a file's matrices are dequantized to.

    It is their own where they are all float32 or all float16, and ``otherwise`` for blocks.
    """
    types = {tensor.type for tensor in header.tensors.values() if len(tensor.shape) > 1}
    dtype = _FLOATS.get(types.pop()) if len(types) == 1 else None
    return dtype or otherwise


def read_header(path: Path) -> GgufHeader:
    """Read a file's head; a second time only if the file has changed.

    Source of the format: docs/gguf.md of github.com/ggml-org/ggml.

    Raises:
        FileFault: It is no GGUF file that can be read, or it is cut off.
    """
    status = require_regular(path)
    return _read(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read(path: Path, size_bytes: int, _changed: int) -> GgufHeader:
    with open_regular(path) as file:
        if file.read(4) != _MAGIC:
            raise FileFault(path, "is not a GGUF file: it does not begin with GGUF")
        head = _Head(file, size_bytes, at=4)
        try:
            (version,) = head.numbers("I", 1)
            if version not in _VERSIONS:
                raise FileFault(
                    path,
                    f"is GGUF version {version}, and only little-endian versions 2 and 3 "
                    "are supported: convert it again with llama.cpp",
                )
            tensors, fields = head.numbers("Q", 2)
            read = _once(
                (head.string(), head.value(head.number()))
                for _ in range(head.held(fields, _FIELD_BYTES))
            )
            table = _once(
                (head.string(), _tensor(head)) for _ in range(head.held(tensors, _TENSOR_BYTES))
            )
        except (struct.error, KeyError, EOFError, UnicodeDecodeError):
            raise FileFault(path, "is a broken GGUF file: its header cannot be read") from None
        except _Twice as error:
            raise FileFault(path, f"is a broken GGUF file: it names {error} twice") from None
    alignment = read.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= _WIDEST_ALIGNMENT:
        what = f"is a broken GGUF file: general.alignment={shown(alignment)}"
        raise FileFault(path, what)
    start = -(-head.at // alignment) * alignment
    table = {name: replace(tensor, offset=start + tensor.offset) for name, tensor in table.items()}
    if any(t.offset + _at_least_bytes(t) > size_bytes for t in table.values()):
        raise FileFault(path, "is truncated: its last tensors are beyond its end")
    if lying := _in_another(table):
        raise FileFault(path, f"is a broken GGUF file: {shown(lying)} overlaps another tensor")
    return GgufHeader(path, read, table)


class _Twice(Exception):
    """A name that there is twice."""


def _once(pairs: Iterable[tuple[str, _T]]) -> dict[str, _T]:
    unique: dict[str, _T] = {}
    for name, value in pairs:
        if name in unique:
            raise _Twice(shown(name))
        unique[name] = value
    return unique


def _tensor(head: "_Head") -> GgufTensor:
    dimensions = head.number()
    if dimensions > _MOST_DIMENSIONS:
        raise EOFError
    shape = head.numbers("Q", dimensions)[::-1]
    return GgufTensor(shape, head.number(), *head.numbers("Q", 1))


def _in_another(table: dict[str, GgufTensor]) -> str | None:
    """A tensor that begins before the one in front of it ends."""
    end = 0
    for name, tensor in sorted(table.items(), key=lambda entry: entry[1].offset):
        if tensor.offset < end:
            return name
        end = tensor.offset + _at_least_bytes(tensor)
    return None


def _at_least_bytes(tensor: GgufTensor) -> int:
    elements, size = _BLOCKS.get(tensor.type, (1, 0))
    return math.prod(tensor.shape) // elements * size


class _Head:
    """Reads a head value by value; no count is believed that the file has no room for."""

    def __init__(self, file: BinaryIO, size: int, at: int) -> None:
        """Read on from ``at`` in a file of ``size`` bytes."""
        self._file, self._size, self.at = file, size, at

    def held(self, count: int, least_bytes: int) -> int:
        """The count, if so many things of at least so many bytes can follow."""
        if count * least_bytes > self._size - self.at:
            raise EOFError
        return count

    def numbers(self, kind: str, count: int) -> tuple[Any, ...]:
        return struct.unpack(f"<{count}{kind}", self._bytes(count * struct.calcsize(kind)))

    def number(self) -> int:
        number: int = self.numbers("I", 1)[0]
        return number

    def string(self) -> str:
        return self._bytes(*self.numbers("Q", 1)).decode()

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner = self.number()
            (count,) = self.numbers("Q", 1)
            if depth > _DEEPEST:
                raise EOFError
            if inner in (_STRING, _ARRAY):
                size = self.held(count, _STRING_BYTES)
                return [self.value(inner, depth + 1) for _ in range(size)]
            code = _SCALARS[inner]
            self.held(count, struct.calcsize(code))
            if inner == _BOOL:
                return list(self.numbers("?", count))
            # Boxed where they are looked at: a vocabulary has a quarter of a million.
            return array(code, self.numbers(code, count))
        return self.numbers(_SCALARS[kind], 1)[0]

    def _bytes(self, size: int) -> bytes:
        self.held(size, 1)
        self.at += size
        return self._file.read(size)
