"""Values of the wrong kind for every field there is, read off the structured configurations."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from runner.config.choices import written

HOSTILE = (
    "[bold]a[/]", "[/]", "a\nb", "a\0b", "\udcff", "${x}", "${", "../../x", "/", "~", "~nobody/x",
    "\x1b[31mred", "<script>alert(1)</script>", "=cmd()", "a|b`c`", "re:(", "re:(a+)+$", "%s{}",
    "C:\\x", "a,b=c", "'\"", "-x", ".", "..", " ", "\u202eabc", "é", "e\u0301", "模型",
    "null", "true", "1e999", "0x10", "a" * 300, "a/" * 2500, "/dev/zero", "/proc/self",
)  # fmt: skip
WRONG = ("word", 7, -7, 1.5, True, [1], ["a"], {"a": 1}, [[1]], [None], {"a": {"b": [1]}})
HUGE = (10**30, 10**9 + 1, 1e308, 10**400, 2**63)
NEGATIVE = (-1, -(10**30), -0.5, -1e308)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))


@dataclass(frozen=True)
class Leaf:
    """A field that an override can name."""

    key: str
    type: Any
    owner: type

    @property
    def section(self) -> str:
        return self.key.split(".")[0]


def leaves(value: Any, prefix: str = "") -> Iterator[Leaf]:
    """Every field of a configuration, however deep; of like entries of a mapping the first."""
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        key, content = f"{prefix}{field.name}", getattr(value, field.name)
        yield Leaf(key, hints[field.name], _declared_by(type(value), field.name))
        if dataclasses.is_dataclass(content):
            yield from leaves(content, f"{key}.")
        if isinstance(content, dict):
            for name, one in list(content.items())[:1]:
                if dataclasses.is_dataclass(one):
                    yield from leaves(one, f"{key}.{name}.")


def _declared_by(kind: type, name: str) -> type:
    return next(
        one for one in reversed(kind.__mro__) if name in vars(one).get("__annotations__", {})
    )


def _plain(type_: Any) -> Any:
    """A type without ``Optional``."""
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        return next(one for one in typing.get_args(type_) if one is not type(None))
    return type_


def kinds(leaf: Leaf) -> dict[str, tuple[Any, ...]]:
    """Values for a field, the worst known first, by what is wrong with them."""
    type_ = _plain(leaf.type)
    origin = typing.get_origin(type_) or type_
    found: dict[str, tuple[Any, ...]] = {"wrong": WRONG, "empty": ("", None, [], {}, [[]])}
    if origin in (int, float):
        return {**found, "huge": HUGE, "negative": NEGATIVE, "not finite": NOT_FINITE,
                "hostile": HOSTILE}  # fmt: skip
    if origin is list:
        (inner,) = typing.get_args(type_)
        entries = _entries(inner)
        return {**found, "entries": entries, "huge": (entries[0] * 30,)}
    if origin is dict:
        inner = typing.get_args(type_)[1]
        entries = tuple({"a": one[0]} for one in _entries(inner))
        named = tuple({name: "x"} for name in HOSTILE[:12])
        return {**found, "entries": entries, "names": named}
    if dataclasses.is_dataclass(type_):
        return found
    if origin is bool or (isinstance(origin, type) and issubclass(origin, Enum)):
        return {**found, "hostile": HOSTILE}
    return {**found, "hostile": HOSTILE, "huge": ("a" * 5000, *HUGE), "negative": NEGATIVE}


def _entries(inner: Any) -> tuple[list[Any], ...]:
    """Lists of one entry that is wrong somehow."""
    inner = _plain(inner)
    if dataclasses.is_dataclass(inner):
        hints = typing.get_type_hints(inner)
        return tuple(
            [{name: value}]
            for name, type_ in hints.items()
            for values in kinds(Leaf(name, type_, inner)).values()
            for value in values[:2]
        )
    return tuple(
        [one] for one in (*HOSTILE[:12], *NEGATIVE, *HUGE[:2], *NOT_FINITE, 0, 1, "", None)
    )


def overrides(leaf: Leaf) -> Iterator[tuple[str, list[str]]]:
    """Overrides that give a field each of those values, by kind."""
    for kind, values in kinds(leaf).items():
        yield kind, [f"{leaf.key}={written(value)}" for value in values if _is_sayable(value)]


def _is_sayable(value: Any) -> bool:
    # Numbers of more digits than Python reads are Hydra's to refuse.
    return not isinstance(value, int) or abs(value) < 10**4000


def anything(leaf: Leaf) -> st.SearchStrategy[str]:
    """Overrides that give a field whatever hypothesis thinks of."""
    texts = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(HOSTILE)
    numbers = st.integers() | st.floats() | st.integers(-3, 3)
    single = st.none() | st.booleans() | numbers | texts
    known = [one for values in kinds(leaf).values() for one in values if _is_sayable(one)]
    nested = st.recursive(
        single,
        lambda one: st.lists(one, max_size=3) | st.dictionaries(texts, one, max_size=3),
        max_leaves=5,
    )
    return st.builds(
        lambda value: f"{leaf.key}={written(value)}", st.sampled_from(known) | single | nested
    )
