"""Prose from a MediaWiki XML dump.

Written here because mwparserfromhell's ``strip_code`` loses its way in paragraphs dense with
references: it dropped the opening of articles and kept pieces of citations as prose.
"""

import bisect
import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from runner.data.texts.decoding import open_bytes

_SHORTEST_ARTICLE_CHARACTERS = 500
_SHORTEST_PARAGRAPH_CHARACTERS = 80

_DROPPED = re.compile(
    r"<!--|<ref\b[^<>]*/>|<(ref|references|gallery|timeline|table|code|pre|source"
    r"|syntaxhighlight|imagemap|score|hiero)\b[^<>]*>",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"<(math|chem)\b[^<>]*>", re.IGNORECASE)
_DEEPEST = 50
"""Levels of templates, links or tables in each other; articles have ten."""
_HOLE = "\x00"
"""Stands where a formula was: a sentence with a gap is no prose, so its paragraph goes."""

_INNER = r"((?:(?!\{\{|\}\}|\[\[|\]\]).)*)"
_INNERMOST = re.compile(rf"\{{\{{{_INNER}\}}\}}|\[\[{_INNER}\]\]", re.DOTALL)
_INNERMOST_TABLE = re.compile(r"^[ :]*\{\|(?:(?!^[ :]*\{\|).)*?^[ ]*\|\}", re.DOTALL | re.MULTILINE)
_DROPPED_LINK = re.compile(r"\s*(file|image|category|[a-z]{2,3}(-[a-z]+)*)\s*:", re.IGNORECASE)
_EXTERNAL_LINK = re.compile(r"\[(?:https?:|ftp:)?//[^\s\]]+[ \t]*([^\]\n]*)\]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_LEFTOVER = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|</?[a-zA-Z]|\x00|https?://")


def read_wikipedia(path: Path) -> Iterator[str]:
    """Prose of each article of a dump (XML, or XML in bz2), in the dump's order.

    Redirects, pages outside the article namespace and articles with less than 500
    characters of prose are left out.

    Raises:
        xml.etree.ElementTree.ParseError: The file is not XML.
        OSError, EOFError: The file cannot be read or its compression is damaged.
    """
    with open_bytes(path) as stream:
        for _, element in ElementTree.iterparse(stream):
            if _local_name(element) != "page":
                continue
            parts = {_local_name(part): part.text or "" for part in element.iter()}
            element.clear()
            if parts.get("ns") != "0" or "redirect" in parts:
                continue
            article = prose(parts.get("text", ""))
            if len(article) >= _SHORTEST_ARTICLE_CHARACTERS:
                yield article


def prose(wikitext: str) -> str:
    """Paragraphs of an article, parted by blank lines.

    Left out: templates (but for those that hold text, see ``_template``), tables, references,
    files, categories, lists, headings, and paragraphs with a formula or unbalanced markup.
    """
    text = _without(_DROPPED, wikitext, "")
    text = _without(_FORMULA, text, _HOLE)
    # From the inside out, so that a caption's own links and templates go before the caption.
    text = _until_stable(_INNERMOST, _template_or_link, text)
    text = _until_stable(_INNERMOST_TABLE, lambda _: "", text)
    text = _EXTERNAL_LINK.sub(r"\1", text)
    text = re.sub(r"<br\b[^<>]*>", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"'{2,}", "", _TAG.sub("", text))
    # Last, so that an escaped "<" is text and not a tag.
    text = html.unescape(text)
    paragraphs = (_tidy(line) for line in text.splitlines())
    return "\n\n".join(line for line in paragraphs if _is_prose(line))


def _without(opening: re.Pattern[str], text: str, put: str) -> str:
    """A text in which elements, from an opening tag to the next closing one, are replaced.

    By a pattern of both each tag that is never closed would be looked for to the text's end.
    """
    pieces: list[str] = []
    at = 0
    ends: dict[str, list[tuple[int, int]]] = {}
    for found in opening.finditer(text):
        if found.start() < at:
            continue
        name = "--" if found[0] == "<!--" else (found[1] or "").lower()
        end = found.end()
        if name:
            if name not in ends:
                closing = "-->" if name == "--" else rf"</{name}\s*>"
                ends[name] = [c.span() for c in re.finditer(closing, text, re.IGNORECASE)]
            row = bisect.bisect_left(ends[name], (end, 0))
            if row == len(ends[name]):
                continue
            end = ends[name][row][1]
        pieces += (text[at : found.start()], put)
        at = end
    return "".join([*pieces, text[at:]])


def _until_stable(
    pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str], text: str
) -> str:
    for _ in range(_DEEPEST):
        text, count = pattern.subn(replacement, text)
        if not count:
            break
    return text  # what is deeper yet leaves marks, and its paragraph goes


def _template_or_link(match: re.Match[str]) -> str:
    template, link = match.groups()
    return _template(template) if template is not None else _link(link)


def _template(body: str) -> str:
    """The text that a template shows inside a sentence, for the few that show some."""
    name, *arguments = (part.strip() for part in body.split("|"))
    name = name.lower()
    shown = [argument for argument in arguments if not re.match(r"\w+\s*=", argument)]
    if name in ("convert", "cvt") and len(shown) > 1:
        return " ".join(shown[:2])
    if (name == "lang" and len(shown) > 1) or (name.startswith("lang-") and shown):
        return shown[-1]
    if name in ("nowrap", "sub", "sup", "quote") and shown:
        return shown[0]
    if name in ("math", "mvar", "frac", "chem", "val"):
        return _HOLE
    return ""


def _link(body: str) -> str:
    """A link's label; nothing for files, categories and other languages."""
    if _DROPPED_LINK.match(body):
        return ""
    return body.rpartition("|")[2]


def _tidy(line: str) -> str:
    """Close the gaps that dropped templates leave: ``Albedo ( ; from`` or ``text () .``."""
    line = re.sub(r"\(\s*[;,:]\s*", "(", line.replace("\xa0", " "))
    line = re.sub(r"\(\s*\)", "", line)
    line = re.sub(r"\s+", " ", line)
    return re.sub(r" ([.,;:)])", r"\1", line).strip()


def _is_prose(line: str) -> bool:
    """Whether a line is a sentence or more, without markup that was not understood."""
    return (
        len(line) > _SHORTEST_PARAGRAPH_CHARACTERS
        and line[-1] in '.!?"”)'
        and not line.startswith(("*", "#", "|", "!", ":", ";", "="))
        and not _LEFTOVER.search(line)
    )


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
