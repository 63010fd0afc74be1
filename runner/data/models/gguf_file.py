"""A checkpoint that is one GGUF file."""

import struct
from pathlib import Path
from typing import Any

from runner.errors import StageError

MODEL_CONFIG = "model_config.json"
"""Name of the copy of the model's config.json beside a GGUF file: one that makes no loader take the
folder for a model in Hugging Face layout."""


def only_gguf(directory: Path) -> Path:
    """The GGUF file of a checkpoint.

    Raises:
        StageError: There is not exactly one.
    """
    files = sorted(directory.glob("*.gguf"))
    if len(files) != 1:
        raise StageError(f"{directory} contains {len(files)} .gguf files, not one")
    return files[0]


_LONG = 4096
"""Entries of an array from which on it is a vocabulary, its scores or its merges."""


def read_gguf(path: Path) -> Any:
    """A ``gguf.GGUFReader`` of a file; arrays of more than 4096 entries are empty in it.

    The package makes two numpy arrays of each entry, which takes it seconds for a vocabulary. What
    that says is in ``gguf_header.read_header``.
    """
    import gguf
    from gguf.constants import GGUFValueType

    class Reader(gguf.GGUFReader):
        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type == GGUFValueType.ARRAY and self.byte_order == "I":
                kind, count = _ARRAY.unpack_from(self.data.data, orig_offs)
                if count > _LONG and kind != GGUFValueType.ARRAY:
                    begin = orig_offs + _ARRAY.size
                    scalar = self.gguf_scalar_to_np.get(GGUFValueType(kind))
                    size = (
                        scalar().nbytes * count
                        if scalar
                        else _strings(self.data.data, begin, count)
                    )
                    types = [GGUFValueType.ARRAY, GGUFValueType(kind)]
                    return _ARRAY.size + size, [], [], types
            return super()._get_field_parts(orig_offs, raw_type)

    return Reader(path)


_ARRAY = struct.Struct("=IQ")
_LENGTH = struct.Struct("=Q")


def _strings(data: Any, begin: int, count: int) -> int:
    """Bytes that so many strings take, each its length and then its letters."""
    end = begin
    for _ in range(count):
        end += _LENGTH.size + _LENGTH.unpack_from(data, end)[0]
    return end - begin
