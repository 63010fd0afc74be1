"""A body of text, for calibration or for evaluation."""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded


class TextKind(Enum):
    """Where a text comes from."""

    package = "package"
    standard_library = "standard_library"
    file = "file"
    hub = "hub"
    continuations = "continuations"
    """Of a package's text the beginnings of documents, 32 tokens each, and what the unquantized
    model writes after them, greedily: up to 96 tokens."""

    @property
    def fields(self) -> frozenset[str]:
        """Fields that say where a text of this kind is; a text reads none of the other kinds'."""
        return _PLACE[self]


class TextReader(Enum):
    """How documents are read out of a file."""

    auto = "auto"
    """By the file's name: ``.jsonl``, ``.json``, ``.parquet``, ``.csv``, ``.tsv``, ``.xml`` and
    ``.bz2`` (dumps), gzip or not; every other file is plain text."""
    plain = "plain"
    """The whole file is one document."""
    jsonl = "jsonl"
    """One JSON object a line, gzip or plain; ``field`` names what holds the document."""
    json = "json"
    """A JSON list of objects, or one object a line; ``field`` as for jsonl."""
    csv = "csv"
    """Comma-separated values (tabs in ``.tsv``) below a line of names; ``field`` is a column."""
    parquet = "parquet"
    """A table; ``field`` names the column that holds the document."""
    wikipedia_dump = "wikipedia_dump"
    """A MediaWiki XML dump (bz2 or plain); markup is stripped, one article a document."""
    python_docstrings = "python_docstrings"
    """Docstrings of Python sources, one module a document."""
    python_source = "python_source"
    """Python sources, one module a document."""

    @property
    def fields(self) -> frozenset[str]:
        """Fields that this reader reads; by ``auto`` whatever the file's own reader does."""
        records = {"field", "group_by", "conversation"}
        if self in (TextReader.wikipedia_dump, *_OF_PYTHON):
            return frozenset()
        return frozenset({"errors"} if self is TextReader.plain else {"errors", *records})

    @classmethod
    def of_name(cls, path: Path) -> "TextReader":
        """The reader that a file's name speaks for."""
        name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
        return cls(BY_SUFFIX.get(name.suffix.lower(), "plain"))


BY_SUFFIX = {
    ".txt": "plain", ".md": "plain", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".xml": "wikipedia_dump",
    ".bz2": "wikipedia_dump",
}  # fmt: skip
"""Readers by the ends of files' names; all other files are plain text."""
_OF_PYTHON = (TextReader.python_docstrings, TextReader.python_source)
_PLACE = {
    TextKind.package: frozenset({"package", "version", "member", "sha256"}),
    TextKind.standard_library: frozenset(),
    TextKind.file: frozenset({"path"}),
    TextKind.hub: frozenset({"hub_id", "revision", "member"}),
    TextKind.continuations: frozenset({"package", "version", "member", "sha256"}),
}
_READING = frozenset({"errors", "field", "group_by", "conversation"})


class TextErrors(Enum):
    """What becomes of bytes that are not UTF-8, NUL bytes and lone surrogates."""

    strict = "strict"
    """An error that names the file and the line."""
    replace = "replace"
    """They are read as U+FFFD."""


@dataclass
class Text:
    """A named text: from a package, a local file, the standard library or the hub."""

    name: str = MISSING
    kind: TextKind = MISSING
    reader: TextReader = TextReader.auto
    errors: TextErrors = TextErrors.strict
    field: Optional[str] = None
    """Key or column of a document (readers jsonl, json, csv, parquet); ``text`` by default."""
    group_by: Optional[str] = None
    """Neighbouring lines with the same value under this key are one document."""
    conversation: bool = False
    """``field`` holds a list of messages, each with ``role`` and ``content``."""
    documents: Optional[int] = bounded(None, least=1)
    """Number of documents to use from the start of very large texts."""
    package: Optional[str] = None
    version: Optional[str] = None
    member: Optional[str] = None
    """Path inside the package's wheel or source archive; for the hub a pattern of paths inside
    the data set's repository, such as ``data/train-*.parquet``."""
    sha256: Optional[str] = None
    """Checksum of ``member`` (packages)."""
    hub_id: Optional[str] = None
    """Data set on the hub, ``owner/name`` (kind hub)."""
    revision: Optional[str] = None
    """Branch, tag or commit there."""
    path: Optional[str] = None
    """A file or directory on this machine (kind file)."""
    licence: Optional[str] = bounded(None, prose=True)
    description: str = bounded("", prose=True)

    def unread(self) -> dict[str, str]:
        """Fields that have no effect on this text, each with the reason."""
        unread = {}
        for field in sorted(frozenset().union(*_PLACE.values()) - self.kind.fields):
            unread[field] = (
                f"is {self.name}, of kind {self.kind.value}, which does not read {field}"
            )
        reader = self.reader
        if reader is TextReader.auto and self.kind is TextKind.file and self.path:
            path = os.path.expanduser(self.path)  # noqa: PTH111 - neither raises, whatever it says
            reader = reader if os.path.isdir(path) else TextReader.of_name(Path(path))  # noqa: PTH112
        for field in sorted(_READING - reader.fields):
            unread[field] = f"is read by reader {reader.value}, which does not read {field}"
        return unread
