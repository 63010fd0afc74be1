"""Fields that were renamed: the old name is accepted, with a warning, until a later version.

The one table of them. Everything that names a field goes through here before it is used: the
overrides of a command line or of ``runner.run``, YAML files, the axes of sweeps, claims, and what
a store has of earlier versions.
"""

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import UsageError

_WARNED = "QUANT_RUNNER_WARNED_OF"
"""Variable with the old names that were warned of, so that no process of a sweep repeats it."""
_OVERRIDE = re.compile(r"(~|\+{0,2})(?:([^@=]*)@)?([^=]*)(=?)(.*)", re.DOTALL)

_TOKEN = re.compile(
    r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^{}"':,]+|.)(:?)""",
    re.DOTALL,
)
"""Quoted text, a brace, or what is between, such as a key with its colon."""


@dataclass(frozen=True)
class Renamed:
    """A field that has a new name in the same section."""

    section: str
    """Where it is, such as ``hydra.launcher``; ``*`` stands for any one name."""
    old: str
    new: str
    until: str = "0.3.0"
    """Version in which the old name stops working."""


RENAMED = (
    Renamed("plan", "batch", "concurrency"),
    Renamed("plan", "batch_size", "concurrency"),
    Renamed("plan", "comparison", "show_measured"),
    Renamed("plan", "largest_batch", "max_batch_size"),
    Renamed("plan", "max_time_per_output_token_seconds", "latency_seconds"),
    Renamed("plan", "least_recovery_percent", "min_recovery_percent"),
    Renamed("sensitivity", "grain", "granularity"),
    Renamed("serving", "objective", "slo"),
    Renamed("serving", "startup_seconds", "startup_timeout_seconds"),
    Renamed("compare", "mix_arithmetic", "allow_different_dtypes"),
    Renamed("environment.*", "shims", "patches"),
    Renamed("hydra.launcher", "at_once", "max_concurrent"),
    Renamed("hydra.sweeper", "at_once", "max_concurrent"),
)


MOVED = {"engine.kv_cache_dtype": "kv_cache", "plan.kv_cache_bits": "kv_cache"}
"""Fields that a config group has taken the place of: they are refused with its name."""
_CACHE_TYPES = {"fp8": "fp8_e4m3", "fp8_e4m3": "fp8_e4m3", "fp8_e5m2": "fp8_e5m2"}


def present_name(key: str) -> str:
    """The name that a dotted key has now; itself unless it or a section above was renamed."""
    for one in RENAMED:
        # Most keys are none of these, and a report looks at millions.
        if one.old in key and (match := _key(one).match(key)) is not None:
            key = f"{match[1]}.{one.new}{key[match.end() :]}"
    return key


def present_overrides(overrides: Sequence[str], *, warn: bool = True) -> list[str]:
    """Overrides under the present names of the fields that they set and refer to.

    Args:
        overrides: As they were typed, or as a record has them.
        warn: Somebody can change them.

    Raises:
        UsageError: A field is set under two names.
    """
    if not any(one.old in word for word in overrides for one in RENAMED):
        return list(overrides)
    result = [_present_override(word, warn) for word in overrides]
    names: dict[str, str] = {}
    for word, present in zip(overrides, result, strict=True) if warn else ():
        old, new = _field_of(word), _field_of(present)
        if (other := names.setdefault(new, old)) != old:
            raise UsageError(_both(other, old, new))
        if old != new:
            _warn(old, new, "")
    return result


def present_axes(axes: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A mapping of dotted keys, such as a grid of a sweep, under present names.

    Args:
        axes: Values or choices by key; a key may have ``+`` in front, as an override has.
        place: What holds it, for messages.

    Raises:
        UsageError: It has a field under two names.
    """
    result: dict[str, Any] = {}
    names: dict[str, str] = {}
    for key, value in ((str(key), value) for key, value in axes.items()):
        name = key.lstrip("+")
        new = present_name(name)
        if (other := names.setdefault(new, name)) != name:
            raise UsageError(f"{place}: {_both(other, name, new)}")
        if new != name:
            _warn(name, new, place)
        result[key.removesuffix(name) + new] = value
    return result


def present_section(content: Any, section: str, place: Callable[[str], str]) -> Any:
    """The content of a section under present names, however deep.

    Args:
        content: Plain containers, as a YAML file has them.
        section: Its dotted name; empty for the configuration's root.
        place: Where in the file a field is, by its dotted name.

    Raises:
        UsageError: It has a field under two names.
    """
    if isinstance(content, list):
        return [present_section(one, f"{section}.{at}", place) for at, one in enumerate(content)]
    if isinstance(content, str):
        return _present_references(content, lambda: place(section))
    if not isinstance(content, dict):
        return content
    result: dict[Any, Any] = {}
    names: dict[str, str] = {}
    for key, value in content.items():
        old = f"{section}.{key}" if section else str(key)
        new = present_name(old)
        name = key if new == old else new.rpartition(".")[2]
        if (other := names.setdefault(new, old)) != old:
            raise UsageError(f"{place(other)}: {_both(other, old, new)}")
        if name != key:
            _warn(old, new, place(old))
        result[name] = present_section(value, new, place)
    return result


def present_config(config: dict[str, Any]) -> None:
    """Give the fields of a record's configuration their present names.

    Nobody is warned, as nobody can change a record. A report reads thousands of them, so only the
    sections of the table are looked at.
    """
    for one in RENAMED:
        for section in _sections(config, one.section.split(".")):
            if one.old in section:
                section[one.new] = section.pop(one.old)
    for engine in _sections(config, ["engine"]):
        if (held := _CACHE_TYPES.get(engine.pop("kv_cache_dtype", None))) is not None:
            config.setdefault("kv_cache", {"key": held, "value": held, "group_size": None})


def _sections(config: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    nodes: list[Any] = [config]
    for name in names:
        inner = (node.values() if name == "*" else [node.get(name)] for node in nodes)
        nodes = [node for level in inner for node in level if isinstance(node, dict)]
    return nodes


def names_of_keys(section: str, content: dict[str, Any]) -> dict[str, Any]:
    """A section under the names that went into the keys of the store before it was renamed.

    Results of earlier versions are reused thanks to that.

    Args:
        section: Its dotted name.
        content: Its fields, as JSON values.
    """
    # Of several old names the first in the table is the oldest.
    old = {one.new: one.old for one in reversed(RENAMED) if one.section == section}
    return {old.get(name, name): value for name, value in content.items()}


def _warn(old: str, new: str, place: str) -> None:
    """Say that a field was renamed: once, however many processes and files have the old name."""
    from runner.util.shown import tell

    known = os.environ.get(_WARNED, "").split()
    if old in known:
        return
    os.environ[_WARNED] = " ".join([*known, old])
    until = next(one.until for one in RENAMED if _key(one).match(old))
    tell(
        f"  warning: {place}{': ' if place else ''}{old} was renamed to {new}; the old name will "
        f"be removed in version {until}",
        error=True,
    )


@functools.cache
def _key(one: Renamed) -> re.Pattern[str]:
    section = re.escape(one.section).replace(r"\*", r"[^.]+")
    return re.compile(rf"({section})\.{one.old}(?![^.\[])")


@functools.cache
def _reference(one: Renamed) -> re.Pattern[str]:
    section = re.escape(one.section).replace(r"\*", r"[\w-]+")
    return re.compile(rf"(?<![\w.])({section})\.{one.old}(?!\w)")


def _present_references(text: str, place: Callable[[], str] | None) -> str:
    """A text in which every ``${…}`` refers to present names."""
    if "${" not in text:
        return text
    for one in RENAMED:
        if (match := _reference(one).search(text)) is not None:
            if place is not None:
                _warn(match[0], f"{match[1]}.{one.new}", place())
            text = _reference(one).sub(rf"\1.{one.new}", text)
    return text


def _present_override(word: str, warn: bool) -> str:
    match = _OVERRIDE.fullmatch(word)
    assert match is not None
    sign, group, key, equals, value = match.groups()
    key = present_name(key)
    if value.lstrip().startswith("{"):
        value = _present_keys(value, key, warn)
    value = _present_references(value, (lambda: key) if warn else None)
    return f"{sign}{'' if group is None else f'{group}@'}{key}{equals}{value}"


def _present_keys(text: str, section: str, warn: bool) -> str:
    """A section as one word, ``{old: value, inner: {…}}``, under present names."""
    result, field = "", section
    outer: list[tuple[str, dict[str, str]]] = []
    for token, colon in _TOKEN.findall(text):
        shown = token
        if token == "{":
            outer.append((field, {}))
        elif token == "}" and outer:
            outer.pop()
        elif colon and outer:
            inside, names = outer[-1]
            old = f"{inside}.{token.strip()}"
            field = present_name(old)
            if (other := names.setdefault(field, old)) != old and warn:
                raise UsageError(_both(other, old, field))
            if field != old:
                shown = token.replace(token.strip(), field.rpartition(".")[2])
                if warn:
                    _warn(old, field, "")
        result += shown + colon
    return result


def _field_of(word: str) -> str:
    """The field that an override sets."""
    return word.partition("=")[0].lstrip("+~").rpartition("@")[2]


def _both(one: str, other: str, new: str) -> str:
    """Two names of a field, of which the older goes."""
    old, kept = (other, one) if one == new else (one, other)
    return f"{old} and {kept} are the same field (renamed); remove {old}"
