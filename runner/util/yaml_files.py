"""YAML files that people write: read with limits; errors name the line."""

import io
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.errors import UsageError

_MOST_BYTES = 256 * 1024
"""Configurations of ours take 5 kB at most; a parser of YAML takes seconds for a megabyte."""
_MOST_DEPTH = 50
_MOST_VALUES = 20_000
"""Values, those that aliases repeat included."""
_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")
}
_FORBIDDEN = yaml.reader.Reader.NON_PRINTABLE
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(path: Path) -> str:
    """The text of a YAML file, which holds one mapping, or nothing.

    Raises:
        UsageError: It is no regular file, is too large, is no UTF-8, or is no such YAML; the
            message names the file and the line.
    """
    text = _decoded(path)
    try:
        _check(text, path)
    except yaml.MarkedYAMLError as error:
        raise _fault(path, *_reworded(error, text)) from None
    return text


def load(path: Path) -> DictConfig:
    """What a YAML file holds.

    Raises:
        UsageError: As ``read_text``, or it has a reference that is none.
    """
    text = read_text(path)
    try:
        config = OmegaConf.load(io.StringIO(text))
    except yaml.MarkedYAMLError as error:
        raise _fault(path, *_reworded(error, text)) from None
    except (OmegaConfBaseException, ValueError) as error:
        raise _fault(path, None, str(error).partition("\n")[0]) from None
    assert isinstance(config, DictConfig)
    return config


def line_of(path: Path, key: str) -> int | None:
    """The line of a file that sets a key, such as ``weight.num_bits``; of part of it, if so."""
    node = yaml.compose(_decoded(path), Loader=_LOADER)
    names = key.split(".")
    for start in range(len(names)):
        if (line := _find(node, names[start:])) is not None:
            return line
    return None


def _find(node: Any, names: list[str]) -> int | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, content in node.value:
        if isinstance(name, yaml.ScalarNode) and name.value == names[0]:
            line: int = name.start_mark.line + 1
            return line if len(names) == 1 else _find(content, names[1:])
    return None


def _fault(path: Path, line: int | None, what: str) -> UsageError:
    place = f"{path}, line {line}" if line is not None else str(path)
    return UsageError(f"{place}: {what}")


def _decoded(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _fault(path, None, "this is not a regular file")
        if status.st_size > _MOST_BYTES:
            most = f"{_MOST_BYTES // 1024} kB"
            raise _fault(path, None, f"a configuration may have {most}, and this has "
                                     f"{status.st_size / 1024:.0f} kB")  # fmt: skip
        content = path.read_bytes()
    except OSError as error:
        raise _fault(path, None, f"it cannot be read ({error.strerror})") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _fault(path, None, "this is UTF-16: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _fault(
            path, line, f"a byte {content[error.start]:#04x} that is not UTF-8: save it as UTF-8"
        ) from None
    if (bad := _FORBIDDEN.search(text)) is not None:
        name = "NUL" if bad[0] == "\0" else ascii(bad[0])
        line = text.count("\n", 0, bad.start()) + 1
        raise _fault(path, line, f"a character {name} that YAML forbids")
    return text


@dataclass
class _Open:
    """A list or mapping whose end has not come."""

    line: int
    anchor: str | None
    is_mapping: bool
    values: int = 1
    keys: dict[str, int] = field(default_factory=dict)
    members: int = 0
    """Keys and contents so far: an even number means that a key comes next."""


def _check(text: str, path: Path) -> None:
    """Go through a file's events: nothing is built of it, however large it would get."""
    stack: list[_Open] = []
    anchors: dict[str | None, int] = {}
    documents = 0
    event: Any
    for event in yaml.parse(text, Loader=_LOADER):
        line: int = event.start_mark.line + 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise _fault(path, line, "a second document begins (---); a file has one")
        if isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            _add(stack, done.values, path, line)
            anchors[done.anchor] = done.values
        if not isinstance(event, yaml.NodeEvent):
            continue
        _check_tag(event, path, line)
        if stack:
            _check_key(stack[-1], event, path, line)
        else:
            _check_root(event, path, line)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) == _MOST_DEPTH:
                raise _fault(
                    path, line, f"lists and mappings are nested more than {_MOST_DEPTH} deep"
                )
            stack.append(_Open(line, event.anchor, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {one.anchor for one in stack}:
                raise _fault(path, line, f"*{event.anchor} refers to a value that contains it")
            if event.anchor not in anchors:
                raise _fault(path, line, f"no &{event.anchor} before this *{event.anchor}")
            _add(stack, anchors[event.anchor], path, line)
        else:
            _add(stack, 1, path, line)
            anchors[event.anchor] = 1


def _check_root(event: Any, path: Path, line: int) -> None:
    empty = isinstance(event, yaml.ScalarEvent) and event.value in ("", "~", "null")
    if not isinstance(event, yaml.MappingStartEvent) and not empty:
        what = "a list" if isinstance(event, yaml.SequenceStartEvent) else "a lone value"
        raise _fault(path, line, f"{what} where a mapping is expected: lines of NAME: VALUE")


def _add(stack: list[_Open], values: int, path: Path, line: int) -> None:
    if not stack:
        return
    stack[-1].values += values
    if sum(one.values for one in stack) > _MOST_VALUES:
        raise _fault(path, line, f"more than {_MOST_VALUES} values, repeated by aliases or not")


def _check_tag(event: Any, path: Path, line: int) -> None:
    tag: str = getattr(event, "tag", None) or "!"
    if tag not in ("!", *_TAGS):
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        raise _fault(path, line, f"a tag {shown}: only plain values are supported")


def _check_key(inside: _Open, event: Any, path: Path, line: int) -> None:
    """See that what stands for a key is a text, and a new one."""
    inside.members += 1
    if not inside.is_mapping or inside.members % 2 == 0:
        return
    if not isinstance(event, yaml.ScalarEvent):
        shown = "an alias" if isinstance(event, yaml.AliasEvent) else "a list or a mapping"
        raise _fault(path, line, f"{shown} where a name is expected (quote it if it is one)")
    if event.value in inside.keys and event.value != "<<":
        first = inside.keys[event.value]
        raise _fault(path, line, f"{event.value} is already in line {first}")
    inside.keys[event.value] = line


def _reworded(error: yaml.MarkedYAMLError, text: str) -> tuple[int | None, str]:
    """The line of a mistake, and one sentence."""
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + 1
    problem = " ".join(str(error.problem or error.context or error).split())
    lines = text.split("\n")
    content = lines[line - 1] if line is not None and line <= len(lines) else ""
    before = content[: len(content) - len(content.lstrip())]
    context = error.context or ""
    opened = error.context_mark.line + 1 if error.context_mark is not None else line
    bracket = "{" if "mapping" in context else "["
    for holds, where, what in (
        ("\t" in before, line, "a tab before the text: indent with spaces"),
        ("flow" in context, opened, f"a {bracket} that is not closed, or a missing comma"),
        ("quoted scalar" in context, opened, "a quote that is not closed"),
        (
            "mapping values are not allowed" in problem,
            line,
            "a second ': ' in one line, or a line indented too far: quote the text",
        ),
        (
            "cannot start any token" in problem,
            line,
            "a text that begins with this character needs quotes",
        ),
        ("block mapping" in context, line, f"the indentation, or a missing ': ' ({problem})"),
        ("simple key" in context, line, f"a missing ': ' ({problem})"),
    ):
        if holds:
            return where, what
    return line, problem
