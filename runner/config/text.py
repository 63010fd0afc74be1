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


class TextReader(Enum):
    """How documents are read out of a file."""

    plain = "plain"
    """The whole file is one document."""
    jsonl = "jsonl"
    """One JSON object a line; ``field`` names the one that holds the document."""
    wikipedia_dump = "wikipedia_dump"
    """A MediaWiki XML dump (bz2 or plain); markup is stripped, one article a document."""
    python_docstrings = "python_docstrings"
    """Docstrings of Python sources, one module a document."""
    python_source = "python_source"
    """Python sources, one module a document."""


@dataclass
class Text:
    """A named text: a member of a package on the index, a local file, or the standard library."""

    name: str = MISSING
    kind: TextKind = MISSING
    reader: TextReader = MISSING
    field: Optional[str] = None
    """Key of a line's document (reader jsonl)."""
    group_by: Optional[str] = None
    """Neighbouring lines with the same value under this key are one document (reader jsonl)."""
    package: Optional[str] = None
    version: Optional[str] = None
    member: Optional[str] = None
    """Path inside the package's wheel or source archive."""
    sha256: Optional[str] = None
    """Checksum of ``member``."""
    path: Optional[str] = None
    """A file or directory on this machine (kind file)."""
    licence: Optional[str] = None
    description: str = ""
