"""The source of a text, independent of its name."""

import functools
import hashlib
import os
from pathlib import Path

from runner.config.schema.text import Text, TextKind
from runner.data.texts.files import text_states

_MOST_BYTES = 256_000_000
"""Of larger files, sizes and times stand for the content: reading them would take seconds."""


def source_of(text: Text) -> str:
    """The same for texts of the same content, as far as it can be told without fetching them.

    Of files that is a digest, so that a copy under another name is the same text. Which key or
    column is read counts: prompts and answers of one file are two texts.
    """
    if text.kind is TextKind.file and text.path:
        states = text_states(text.name, text.path)
        real = tuple((os.path.realpath(file), size, changed) for file, size, changed in states)
        return f"{_digest(real)} {text.field}"
    # Of the standard library two readers take different parts.
    place = (text.kind, text.package, text.version, text.member, text.hub_id, text.revision)
    reader = text.reader if text.kind is TextKind.standard_library else None
    return repr((*place, text.field, reader))


@functools.lru_cache(maxsize=64)
def _digest(found: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    large = sum(size for _, size, _ in found) > _MOST_BYTES
    for file, *state in found:
        digest.update(repr((file, state)).encode() if large else Path(file).read_bytes())
    return digest.hexdigest()
