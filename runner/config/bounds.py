"""Bounds of configuration fields: declared beside each field, checked in one place.

A field that tells nothing has bounds too: whole numbers and fractions are finite and not negative,
texts are such as a file or a name can hold. So a new field is guarded on its first day.
"""

import functools
import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from runner.config.units import unit_of
from runner.util.suggest import nearest

_KEY = "bounds"
COUNT = 10**9
"""Most of what is counted, where a field does not say."""
BYTES = 10**18
"""Most of what is counted in bytes or parameters."""
SEED = 2**32 - 1
"""Largest seed that every library takes."""
_LONGEST_LIST = 10_000
_LONGEST_TEXT = 100_000
_LONGEST_NAME = 4096
_LONGEST_PART = 255
"""Bytes of a path and of a part of it that file systems hold."""
_BLANKS = "\t\n\r"
_SHOWN = 60
"""Characters of a value that a message repeats."""


@dataclass(frozen=True)
class Bounds:
    """Values that a field takes."""

    least: float = 0
    most: float = COUNT
    above: bool = False
    """``least`` itself is left out."""
    filled: bool = False
    """A list of it has one entry at least, a text a character."""
    prose: bool = False
    """A text that names nothing: of several lines, and longer than any name."""
    shortened: bool = False
    """A name that may be longer than a folder's: it ends in a digest then."""
    why: str | None = None
    """What is wrong below ``least``, in place of the comparison."""
    choices: Callable[[], tuple[str, ...]] | None = None
    """What a text, or each of a list, has to be one of: names that plug-ins may add to."""
    wrong: Callable[[str], str | None] | None = None
    """Tells what is wrong with a text of a form of its own."""


def bounded(
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | None = None,
    least: float = 0,
    most: float = COUNT,
    above: bool = False,
    filled: bool = False,
    prose: bool = False,
    shortened: bool = False,
    why: str | None = None,
    choices: Callable[[], tuple[str, ...]] | None = None,
    wrong: Callable[[str], str | None] | None = None,
) -> Any:
    """A dataclass's field with bounds of its own; see ``Bounds``.

    Args:
        default: Its default.
        factory: What makes the default, of lists.
        least: Smallest number it takes, or entry of a list.
        most: Largest.
        above: ``least`` itself is left out.
        filled: A list needs one entry, a text a character.
        prose: A text that names nothing.
        shortened: A name that ends in a digest where it is longer than a folder's.
        why: What is wrong with less than ``least``.
        choices: Gives the names that it takes.
        wrong: Tells what is wrong with a text.
    """
    metadata = {_KEY: Bounds(least, most, above, filled, prose, shortened, why, choices, wrong)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def choices_of(owner: "Field[Any]") -> tuple[str, ...]:
    """The names that a field, or each entry of its list, takes; empty where it takes any."""
    bounds: Bounds = owner.metadata.get(_KEY, Bounds())
    return bounds.choices() if bounds.choices is not None else ()


def faults(value: Any, prefix: str = "") -> Iterator[str]:
    """What is wrong with the values of a configuration, field by field, however deep.

    Args:
        value: A dataclass.
        prefix: Of its fields' names, with the dot.
    """
    kind: Any = type(value)
    for one, bounds, entries in _bounds_of(kind):
        key, content = f"{prefix}{one.name}", vars(value).get(one.name)
        if strangers := _strangers(content, entries):
            kind = "list" if isinstance(content, list) else "mapping"
            yield f"{key} must be a {kind}, each a {_called(entries)}, not {_shown(strangers[0])}"
        else:
            yield from _faults(key, content, bounds, one)


@functools.cache
def _bounds_of(kind: Any) -> "tuple[tuple[Field[Any], Bounds, type | None], ...]":
    """Fields, their bounds, and the type of what lists and mappings hold, where it is simple."""
    hints = get_type_hints(kind)
    return tuple(
        (one, one.metadata.get(_KEY, Bounds()), _entries(hints[one.name])) for one in fields(kind)
    )


def _entries(hint: Any) -> type | None:
    inner = get_args(hint)[-1:] if get_origin(hint) in (list, dict) else ()
    return inner[0] if inner and isinstance(inner[0], type) and inner[0] is not Any else None


def _strangers(content: Any, entries: type | None) -> list[Any]:
    """Entries of another type: OmegaConf lets lists within lists pass."""
    if entries is None:
        return []
    entries_held = content if isinstance(content, list) else []
    entries_held = [*content.values()] if isinstance(content, dict) else entries_held
    wanted = (int, float) if entries is float else entries
    return [one for one in entries_held if not isinstance(one, wanted)]


def _called(entries: type | None) -> str:
    return {int: "whole number", float: "number", str: "text"}.get(
        entries or object, f"{entries.__name__ if entries else 'value'}"
    )


def _faults(key: str, value: Any, bounds: Bounds, owner: "Field[Any] | None") -> Iterator[str]:
    if value is None or isinstance(value, bool | Enum):
        return
    if is_dataclass(value) and not isinstance(value, type):
        yield from faults(value, f"{key}.")
    elif isinstance(value, int | float):
        if (wrong := _number(value, bounds)) is not None:
            why, nearest = wrong
            default = _default(owner)
            nearest = default if nearest is None else nearest
            meant = _as_percent(key, value, bounds) or nearest
            hint = "" if meant is None else f"; try {key}={meant}"
            yield f"{key}={_shown(value)} {why}{hint}"
    elif isinstance(value, str):
        if (fault := _text(value, bounds)) is not None:
            yield f"{key}={_shown(value)} {fault}" if value.strip() else f"{key} {fault}"
    elif isinstance(value, list):
        yield from _list(key, value, bounds)
    elif isinstance(value, dict):
        for name, one in value.items():
            if isinstance(name, str) and (fault := _text(name, Bounds())) is not None:
                yield f"the name {_shown(name)} in {key} {fault}"
            else:
                yield from _faults(f"{key}.{name}", one, bounds, None)


def _list(key: str, value: list[Any], bounds: Bounds) -> Iterator[str]:
    if bounds.filled and not value:
        yield f"{key}=[] is empty; it needs at least one entry"
    if len(value) > _LONGEST_LIST:
        yield f"{key} has {len(value)} entries; at most {_LONGEST_LIST} are allowed"
        return
    for place, one in enumerate(value):
        if is_dataclass(one) and not isinstance(one, type):
            yield from faults(one, f"{key}[{place}].")
        elif (fault := next(_faults(key, one, bounds, None), None)) is not None:
            yield fault
            return


def _as_percent(key: str, value: float, bounds: Bounds) -> str | None:
    """A share that was given in percent, as it is written: ``99`` is ``99%``."""
    unit = unit_of(key.rpartition(".")[2])
    factor = float(unit.factors.get("%", 1)) if unit is not None else 1.0
    if factor == 1 or not bounds.most < value <= bounds.most / factor:
        return None
    return f"{value:g}%"


def _number(value: float, bounds: Bounds) -> tuple[str, float | None] | None:
    """What is wrong with a number, and the nearest that is right."""
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number", None
    if value < bounds.least or (bounds.above and value == bounds.least):
        than = (
            f"is not above {bounds.least:g}" if bounds.above else f"is less than {bounds.least:g}"
        )
        why = than if bounds.why is None else f"{than}: {bounds.why}"
        return why, None if bounds.above else bounds.least
    if value > bounds.most:
        return f"is more than {_plain(bounds.most)}", bounds.most
    return None


def _text(value: str, bounds: Bounds) -> str | None:
    """What is wrong with a text."""
    if bounds.choices is not None and value not in ("???", *(known := bounds.choices())):
        guess = nearest(value, known)
        meant = "" if guess is None else f"; did you mean {guess}?"
        return f"is unknown: expected one of [{', '.join(known)}]{meant}"
    if bounds.filled and not value.strip():
        return f"is empty{': ' + bounds.why if bounds.why else ''}"
    fault = None if bounds.wrong is None else bounds.wrong(value)
    if fault is None and not value.isprintable():
        fault = _characters(value, bounds)
    if fault is not None:
        return fault
    longest = _LONGEST_TEXT if bounds.prose else _LONGEST_NAME
    if len(value) > longest:
        return f"is too long: it has {len(value)} characters, at most {longest} are allowed"
    is_short = bounds.prose or bounds.shortened or len(value) * 4 <= _LONGEST_PART
    parts = () if is_short else value.encode().split(b"/")
    if max(map(len, parts), default=0) > _LONGEST_PART:
        return f"has a part of more than {_LONGEST_PART} bytes, which no file system supports"
    return None


def _characters(value: str, bounds: Bounds) -> str | None:
    """What is wrong with a text that cannot be printed as it is."""
    kinds = {unicodedata.category(one) for one in value if one not in _BLANKS}
    if "Cs" in kinds:
        return "is not valid UTF-8"
    if "Cc" in kinds:
        return "contains control characters"
    if not bounds.prose and len(value.splitlines()) > 1:
        return "has several lines"
    return None


def _default(owner: "Field[Any] | None") -> float | None:
    if owner is None or isinstance(owner.default, bool):
        return None
    return owner.default if isinstance(owner.default, int | float) else None


def _shown(value: Any) -> str:
    text = str(value) if not isinstance(value, int) or value.bit_length() < 200 else "a huge number"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"
