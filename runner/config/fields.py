"""Types and documentation of configuration fields by key, such as ``eval.text.path``."""

import functools
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from runner.config.bounds import choices_of
from runner.config.schema.root import Config
from runner.config.schema.sweepers import GridSettings, SearchSettings
from runner.config.units import unit_of
from runner.util.extensions import Kind, loaded

_PLAIN: dict[type, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a text",
}  # fmt: skip


def is_text(key: str) -> bool:
    """Whether a field's value is free text or a path, whatever option is chosen."""
    return any(kind in (str, Path) for kind in kinds_at(key))


def is_text_list(key: str) -> bool:
    """Whether a field is a list of such values."""
    return any(
        typing.get_origin(kind) is list and typing.get_args(kind)[0] in (str, Path)
        for kind in kinds_at(key)
    )


def may_be_null(key: str) -> bool:
    """Whether a field may be left without a value."""
    return any(type(None) in typing.get_args(hint) for hint in _hints_at(key))


def wanted(key: str) -> str | None:
    """What a field's value has to be, in words, with an example; ``None`` if it is not known."""
    name = key.rpartition(".")[2]
    for kind in kinds_at(key):
        if (words := _wanted(key, name, kind)) is not None:
            null = ", or null" if may_be_null(key) else ""
            return f"{words}{null}"
    return None


def members(key: str) -> list[str]:
    """The words that a field takes, or each member of its list, where they are few."""
    if choices := _choices(key):
        return [*choices]
    for kind in kinds_at(key):
        inside = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
        if isinstance(inside, type) and issubclass(inside, Enum):
            return list(inside.__members__)
    return []


def _wanted(key: str, name: str, kind: Any) -> str | None:
    if isinstance(kind, type) and kind in _PLAIN:
        unit = unit_of(name) if kind in (int, float) else None
        counts = "" if unit is None else f" of {unit.plural}"
        return _PLAIN[kind] if unit is None else f"{_PLAIN[kind]}{counts}, such as {unit.example}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(kind.__members__)}"
    if typing.get_origin(kind) is list:
        (inside,) = typing.get_args(kind)
        if choices := _choices(key):
            example = "quantize" if "quantize" in choices else choices[0]
            return f"a list, such as {key}=[{example}], each one of {', '.join(choices)}"
        member = _wanted(key, name, inside)
        return f"a list, such as {key}=[{_example(inside)}]" + (
            f", each {member}" if member is not None and "such as" not in member else ""
        )
    if typing.get_origin(kind) is dict or is_dataclass(kind):
        return f"a section: set its fields, such as {key}.{_first_field(kind)}=…"
    return None


def _choices(key: str) -> tuple[str, ...]:
    """Names that a field of the root takes, where plug-ins may add to them."""
    return next((choices_of(one) for one in fields(Config) if one.name == key), ())


def _example(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind.__members__))
    if is_dataclass(kind):
        return "{" + _first_field(kind) + ":…}"
    return {int: "1", float: "0.5", str: "A,B", bool: "true"}.get(kind, "…")


def _first_field(kind: Any) -> str:
    return next(iter(typing.get_type_hints(kind)), "KEY") if is_dataclass(kind) else "KEY"


def kinds_at(key: str) -> list[Any]:
    """The types that a field may have: methods and engines differ in theirs."""
    return [kind for hint in _hints_at(key) for kind in _without_none(hint)]


def _hints_at(key: str) -> tuple[Any, ...]:
    hints = _known_hints(key)
    first, _, rest = key.partition(".")
    kind = _EXTENDED.get(first)
    if hints or not rest or kind is None:
        return hints
    # A field of no class that is loaded: it may be one of a plug-in's.
    settings = [one.config for one in loaded(kind).values()]
    return _walked(settings, rest.split("."))


_EXTENDED = {"method": Kind.method, "engine": Kind.engine}
"""Sections whose fields depend on what is chosen, plug-ins included."""


@functools.lru_cache(maxsize=4096)
def _known_hints(key: str) -> tuple[Any, ...]:
    first, _, rest = key.partition(".")
    if first == "hydra":
        from hydra.conf import HydraConf

        hints: list[Any] = [HydraConf]
        segments = rest.split(".") if rest else []
        if segments[:1] == ["sweeper"]:
            hints, segments = [GridSettings, SearchSettings], segments[1:]
    else:
        hints, segments = [Config], key.split(".")
    return _walked(hints, segments)


def _walked(found: list[Any], segments: list[str]) -> tuple[Any, ...]:
    for segment in segments:
        inside = [one for hint in found for kind in _without_none(hint) for one in _below(kind)]
        found = [hint for kind in inside for hint in _field(kind, segment)]
    return tuple(dict.fromkeys(found))


def _below(kind: Any) -> Iterator[Any]:
    """A class and what is chosen in its place; containers as they are."""
    yield kind
    if is_dataclass(kind) and isinstance(kind, type):
        for chosen in kind.__subclasses__():
            yield from _below(chosen)


def _field(kind: Any, segment: str) -> Iterator[Any]:
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        if segment in hints:
            yield hints[segment]
    elif typing.get_origin(kind) is dict:
        yield typing.get_args(kind)[1]
    elif typing.get_origin(kind) is list and segment.isdecimal():
        yield typing.get_args(kind)[0]


def _without_none(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [one for one in typing.get_args(hint) if one is not type(None)]
    return [hint]
