"""Reads many records quickly and in little memory.

Most of a record stands in its sweep's other records too: the configuration's sections, the host,
what the unquantized model came to. Equal parts become one object, which nobody may change.
"""

import contextlib
import gc
import hashlib
import marshal
from collections.abc import Iterator
from typing import Any

_WHOLE = ("host", "versions", "warnings", "log_tail")
_LONG = 64
"""Bytes above which a digest is kept in the place of the content itself."""


class Shared:
    """Parts that have been seen, by their content."""

    def __init__(self) -> None:
        """Know of none."""
        self._seen: dict[bytes, Any] = {}

    def record(self, content: Any) -> Any:
        """A record's content with known parts in the place of equal ones; others are kept."""
        if not isinstance(content, dict):
            return content
        if isinstance(content.get("config"), dict):
            content["config"] = self._fields(content["config"])
        for name in _WHOLE:
            if name in content:
                content[name] = self._one(content[name])
        stages = content.get("stages")
        for stage in stages if isinstance(stages, list) else []:
            if isinstance(stage, dict):
                if "versions" in stage:
                    stage["versions"] = self._one(stage["versions"])
                if isinstance(stage.get("result"), dict):
                    stage["result"] = self._fields(stage["result"])
        return content

    def _fields(self, content: dict[str, Any]) -> dict[str, Any]:
        return {key: self._one(value) for key, value in content.items()}

    def _one(self, value: Any) -> Any:
        # Not by equality, which takes 1, 1.0 and True for the same.
        content = marshal.dumps(value, 2)
        if len(content) > _LONG:
            content = hashlib.blake2b(content, digest_size=16).digest()
        return self._seen.setdefault(content, value)


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Within the block no cycles are looked for.

    Thousands of records are millions of objects without cycles. Python would go through all of
    them again and again while they become more: four fifths of the time that reading them takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
