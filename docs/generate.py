"""Writes docs/configuration.md from the schema: ``python -m docs.generate``.

What a field means is told once, below it in ``runner/config/schema`` (or in a method's
module), and what an option is for in the first comment of its YAML file.
"""

import inspect
import sys
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING as UNSET

from runner.config import options
from runner.config.field_docs import field_docs
from runner.config.renamed import RENAMED
from runner.config.schema.root import Config
from runner.config.schema.text import Text
from runner.config.units import UNITS
from runner.methods import find_method
from runner.util.extensions import Kind, names

PATH = Path(__file__).parent / "configuration.md"
_APART = {Text: "text"}
"""Types that are a config group and fill places in several others."""
_HEAD = """\
# Configuration

Generated from the schema by `python -m docs.generate`; a test compares it with the code.

`GROUP=OPTION` selects a file of `conf/GROUP`, `GROUP.FIELD=VALUE` sets one field; later arguments
take precedence. `runner --cfg job` prints the resolved configuration, `runner --help GROUP`
describes a group's options. A default of `…` is set by the selected option.

**Values.** For a field of type text, the value is the whole shell word, whatever it contains:
`"model.path=/data/modèle (1), a=b"`. Three values are special: `null`, a value in
quotes of its own (`"sweep='null'"` is the text null), and `${…}`, which refers to another value
(`\\${` is the text). All other fields, and every field of a sweep (`-m`), use [Hydra's
grammar](https://hydra.cc/docs/advanced/override_grammar/basic/): commas separate choices,
`[A,B]` is a list. An ambiguous word is refused, and the message shows how to write each meaning.

**Units.** A number whose name ends in its unit takes one behind it, wherever it is set:
UNITS. `30mb` for seconds is refused.

**Errors.** A wrong request prints one line on standard error, which names the word, or the file
and the line, and what it should be; it leaves no folder behind. Exit codes: 0 if every run is
ok or skipped, 1 if a run failed or another error occurred, 2 if the request is wrong, 130
after Ctrl-C. An internal error prints one line too, with the location of its traceback;
`HYDRA_FULL_ERROR=1` shows tracebacks.

**Your own files** (`conf/`, `sweeps/`, `--config-dir`) contain one YAML mapping each, in UTF-8,
of at most 256 kB, with plain values: no tags, no duplicate keys, no alias within what it refers to,
and no defaults list that leads back to its file. Where several have an option of one name, that of
`--config-dir` wins over `./conf`, a package's and the shipped one.

"""

_RENAMED = """\
## Renamed fields

An old name still works, with a warning that names the new one: in overrides, in files of your own,
in the axes of sweeps and searches, and in claims. Stores of earlier versions stay readable, and
their results are reused. Setting a field under both names is an error.

"""


def generate() -> str:
    """The whole page."""
    hints = get_type_hints(Config)
    groups = {*options.groups(own=False)}
    units = "; ".join(f"`…_{end}`: {unit.example}" for end, unit in UNITS.items())
    parts = [_HEAD.replace("UNITS", units), "## General settings\n\n", _doc(Config), "\n\n"]
    plain = [f for f in fields(Config) if not _is_group(hints[f.name]) and f.name not in groups]
    parts.append(_table(Config, "", plain))
    for field in fields(Config):
        if field not in plain:
            parts += _group(field.name, hints[field.name], groups)
    for name in sorted(groups - set(hints)):
        parts += _group(name, _type_of_place(name), groups)
    parts.append(_renamed())
    return "".join(parts).rstrip() + "\n"


def _renamed() -> str:
    lines = [
        f"| `{one.section}.{one.old}` | `{one.section}.{one.new}` | {one.until} |\n"
        for one in RENAMED
    ]
    return _RENAMED + "| old name | new name | gone in |\n|---|---|---|\n" + "".join(lines)


def _group(name: str, type_: Any, groups: set[str]) -> list[str]:
    place = {"text": "text@eval.text", "task": "+task@tasks.own.NAME"}.get(name, name)
    if get_origin(type_) is dict:
        type_ = get_args(type_)[1]
        place = f"{name}.NAME"
    parts = [f"## {name}\n\n", _doc(type_), "\n\n"]
    if name in groups:
        files = options.option_files(name)
        listed = {option: options.about(path) for option, path in files.items()}
        lines = [f"| `{place}={o}` | {_cell(about)} |\n" for o, about in listed.items()]
        if place.endswith(".NAME"):
            lines = [f"| `{o}` | {_cell(about)} |\n" for o, about in listed.items()]
        parts += ["| option | |\n|---|---|\n", *lines, "\n"]
    # A text is a group and a place in others; its fields are told once.
    parts.append(_table(type_, "" if place.endswith(".NAME") else f"{name}.", [*fields(type_)]))
    if name == "method":
        for method in names(Kind.method, builtin=True):
            own = find_method(method).config
            inherited = {field.name for field in fields(type_)}
            if own_fields := [field for field in fields(own) if field.name not in inherited]:
                parts += [f"With `method={method}` also:\n\n", _table(own, "method.", own_fields)]
    return parts


def _table(owner: type, prefix: str, chosen: "list[Field[Any]]") -> str:
    lines = _rows(owner, prefix, chosen)
    if not lines:
        return ""
    return "| field | type | default | |\n|---|---|---|---|\n" + "".join(lines) + "\n"


def _rows(owner: type, prefix: str, chosen: "list[Field[Any]]") -> list[str]:
    hints, about = get_type_hints(owner), field_docs(owner)
    lines = []
    for field in chosen:
        type_ = hints[field.name]
        inner = _inner(type_)
        if inner in _APART:
            lines.append(
                f"| `{prefix}{field.name}` | {_APART[inner]} | … | "
                f"{_cell(about.get(field.name, ''))} See [{_APART[inner]}](#{_APART[inner]}). |\n"
            )
        elif is_dataclass(inner) and get_origin(type_) not in (list, dict):
            if text := about.get(field.name):
                lines.append(f"| `{prefix}{field.name}` | | | {_cell(text)} |\n")
            lines += _rows(inner, f"{prefix}{field.name}.", [*fields(inner)])
        else:
            shown = _default(field)
            text = _cell(about.get(field.name, ""))
            lines.append(f"| `{prefix}{field.name}` | {_type(type_)} | {shown} | {text} |\n")
    return lines


def _doc(owner: Any) -> str:
    return " ".join(inspect.cleandoc(owner.__doc__ or "").replace("``", "`").split())


def _inner(type_: Any) -> Any:
    """The type itself, without ``Optional``."""
    if get_origin(type_) in (Union, types.UnionType):
        return next(one for one in get_args(type_) if one is not type(None))
    return type_


def _is_group(type_: Any) -> bool:
    return is_dataclass(_inner(type_))


def _type_of_place(group: str) -> Any:
    if group == "text":
        return Text
    from runner.config.schema.tasks import Tasks

    return get_args(get_type_hints(Tasks)["own"])[1]


def _type(type_: Any) -> str:
    inner = _inner(type_)
    optional = " or null" if inner is not type_ else ""
    if get_origin(inner) is list:
        return f"list of {_type(get_args(inner)[0])}{optional}"
    if get_origin(inner) is dict:
        return f"{_type(get_args(inner)[1])} by name{optional}"
    if isinstance(inner, type) and issubclass(inner, Enum):
        return ", ".join(f"`{one.value}`" for one in inner) + optional
    return {"str": "text", "int": "integer", "float": "number", "bool": "`true`, `false`"}.get(
        getattr(inner, "__name__", ""), getattr(inner, "__name__", str(inner)).lower()
    ) + optional


def _default(field: "Field[Any]") -> str:
    value: Any = field.default
    if value is MISSING and field.default_factory is not MISSING:
        value = field.default_factory()
    if value is MISSING or value == UNSET:
        return "…"
    if is_dataclass(value):
        return ""
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    return str(value)


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


if __name__ == "__main__":
    PATH.write_text(generate(), "utf-8")
    print(f"{PATH}: {len(PATH.read_text('utf-8').splitlines())} lines", file=sys.stderr)
