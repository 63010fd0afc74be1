"""What the head of a GGUF file says: metadata and tensors' shapes, without torch or numpy."""

import functools
import math
import struct
from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from runner.errors import UsageError

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
_MOST = 1 << 31
"""Longer counts are taken for a file that is broken."""


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
        row: int | None = self.fields.get(f"tokenizer.ggml.{name}_token_id")
        if row is None:
            kind = self.fields.get("tokenizer.ggml.model")
            row = _SPECIAL_BY_DEFAULT.get(kind, {}).get(name)
        size = len(self.fields.get("tokenizer.ggml.tokens") or [])
        return row if row is not None and row < size else None

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
    kept = _FLOATS.get(types.pop()) if len(types) == 1 else None
    return kept or otherwise


def read_header(path: Path) -> GgufHeader:
    """Read a file's head; a second time only if the file has changed.

    Source of the format: docs/gguf.md of github.com/ggml-org/ggml.

    Raises:
        UsageError: It is no GGUF file that can be read, or it is cut off.
    """
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read(path: Path, size_bytes: int, _changed: int) -> GgufHeader:
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise UsageError(f"{path} is no GGUF file: it does not begin with GGUF")
        try:
            (version,) = _numbers(file, "I", 1)
            if version not in _VERSIONS:
                raise UsageError(
                    f"{path} is GGUF of version {version}, and versions 2 and 3 in little-endian "
                    "order are read: convert it anew with llama.cpp"
                )
            tensors, fields = _numbers(file, "Q", 2)
            read = {_string(file): _value(file, _number(file)) for _ in range(_sane(fields))}
            table = {}
            for _ in range(_sane(tensors)):
                name = _string(file)
                shape = tuple(_numbers(file, "Q", _number(file)))[::-1]
                table[name] = GgufTensor(shape, _number(file), *_numbers(file, "Q", 1))
        except (struct.error, KeyError, EOFError, UnicodeDecodeError):
            raise UsageError(f"{path} is a broken GGUF file: its head cannot be read") from None
        alignment = read.get("general.alignment", _ALIGNMENT)
        start = -(-file.tell() // alignment) * alignment
    table = {name: replace(tensor, offset=start + tensor.offset) for name, tensor in table.items()}
    if any(t.offset + _at_least_bytes(t) > size_bytes for t in table.values()):
        raise UsageError(f"{path} is cut off: its last tensors lie beyond its end")
    return GgufHeader(path, read, table)


def _at_least_bytes(tensor: GgufTensor) -> int:
    elements, size = _BLOCKS.get(tensor.type, (1, 0))
    return math.prod(tensor.shape) // elements * size


def _numbers(file: BinaryIO, kind: str, count: int) -> tuple[Any, ...]:
    return struct.unpack(f"<{count}{kind}", _bytes(file, count * struct.calcsize(kind)))


def _number(file: BinaryIO) -> int:
    number: int = _numbers(file, "I", 1)[0]
    return number


def _string(file: BinaryIO) -> str:
    return _bytes(file, _sane(*_numbers(file, "Q", 1))).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner = _number(file)
        count = _sane(*_numbers(file, "Q", 1))
        if inner in (_STRING, _ARRAY):
            return [_value(file, inner) for _ in range(count)]
        if inner == _BOOL:
            return list(_numbers(file, "?", count))
        # Boxed where they are looked at: a vocabulary has a quarter of a million.
        code = _SCALARS[inner]
        return array(code, _numbers(file, code, count))
    return _numbers(file, _SCALARS[kind], 1)[0]


def _bytes(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) != size:
        raise EOFError
    return found


def _sane(count: int) -> int:
    if count > _MOST:
        raise EOFError
    return count
