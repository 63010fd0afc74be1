"""Reads a local text before any stage starts, so that a wrong file fails at once."""

import functools
import importlib.util
import json
from pathlib import Path

from runner.config.schema.text import Text, TextKind, TextReader
from runner.data.texts.documents import plain
from runner.data.texts.files import text_states
from runner.data.texts.readers import read_documents, reader_of
from runner.errors import StageError, UsageError
from runner.util.serialise import from_json, to_json

_MOST_BYTES = 32_000_000
"""Larger files are left to the stage that reads them anyway."""
_PACKED, _UNPACKED = (".gz", ".bz2", ".parquet"), 5
"""About how many times its size a packed file holds."""


def precheck(text: Text) -> int | None:
    """Bytes of a local text's documents; ``None`` for other texts and for large ones.

    Raises:
        UsageError: The file is empty or not what its reader reads.
    """
    if text.kind is not TextKind.file or not text.path:
        return None
    states = text_states(text.name, text.path)
    files = [Path(name) for name, _, _ in states]
    # A control process that was installed alone has no pyarrow; the worker that reads has.
    tables = any(reader_of(text, file) is TextReader.parquet for file in files)
    lacking = tables and not importlib.util.find_spec("pyarrow")
    sizes = (size * (_UNPACKED if name.endswith(_PACKED) else 1) for name, size, _ in states)
    if lacking or sum(sizes) > _MOST_BYTES:
        return None
    changed = tuple(changed for _, _, changed in states)
    return _document_bytes(json.dumps(to_json(text), sort_keys=True), changed)


@functools.lru_cache(maxsize=8)
def _document_bytes(text: str, changed: tuple[int, ...]) -> int:
    try:
        documents = read_documents(from_json(Text, json.loads(text)), Path())
    except StageError as error:
        raise UsageError(str(error)) from None
    return sum(len(plain(document).encode("utf-8", "replace")) for document in documents)
