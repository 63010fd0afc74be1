"""Secret values known to this process, in every form in which they may be printed."""

import base64
import functools
import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.util.secrets.names import is_secret_name
from runner.util.secrets.shapes import assigned

_ANYWHERE = 8
"""Characters from which a value is masked wherever it stands; a shorter one only as a word."""
_SHORTEST = 5
_USER_ALONE = 16
"""Characters from which a URL's user without a password is taken for a token."""
_LINE = 16
_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^\s/@\"'<>]+(?:@[^\s/@\"'<>]+)*)@")

_noted: set[str] = set()


def note(value: Any, name: str = "") -> None:
    """Remember the secrets of a configuration, to be masked wherever they show from now on.

    Args:
        value: JSON values, or one override as it was typed.
        name: What ``value`` stands under.
    """
    _noted.update(_found(value, name))


@dataclass(frozen=True)
class Forms:
    """Texts to be masked."""

    anywhere: tuple[str, ...]
    """The longest first."""
    words: re.Pattern[str] | None
    """Short ones, which must not be masked inside a word."""


def known() -> Forms:
    """All secrets that are known of at the moment."""
    return _forms(frozenset(_noted), frozenset(os.environ.items()))


def secrets() -> list[str]:
    """Secret values that the process knows of, the longest first."""
    values = {*_noted, *_of_environment(os.environ.items())}
    return sorted(values, key=len, reverse=True)


@functools.lru_cache(maxsize=8)
def _forms(noted: frozenset[str], environment: frozenset[tuple[str, str]]) -> Forms:
    values = {*noted, *_of_environment(environment)}
    long = {form for value in values if len(value) >= _ANYWHERE for form in _spellings(value)}
    short = sorted((value for value in values if len(value) < _ANYWHERE), key=len, reverse=True)
    words = None
    if short:
        either = "|".join(map(re.escape, short))
        words = re.compile(rf"(?<![A-Za-z0-9])(?:{either})(?![A-Za-z0-9])")
    return Forms(tuple(sorted(long, key=lambda form: (-len(form), form))), words)


def _of_environment(variables: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in variables:
        yield from _found(value, name)


def _found(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, content in value.items():
            # All that stands below a secret name is secret.
            inner = name if is_secret_name(name) else f"{name}.{key}"
            yield from _found(content, inner)
    elif isinstance(value, list | tuple):
        for content in value:
            yield from _found(content, name)
    elif isinstance(value, str):
        if is_secret_name(name):
            yield from _worth(value)
        yield from _user_information(value)
        key, sign, given = value.partition("=")
        if sign and " " not in key and is_secret_name(key):
            yield from _worth(given.strip("'\""))
        for inner, content in assigned(value):
            if is_secret_name(inner):
                yield from _worth(content)


def _worth(value: str) -> Iterator[str]:
    """The value if it can be told from ordinary text, and the lines of a long one."""
    value = value.strip()
    if value.startswith("${") or _is_path(value):
        return
    plain = value.isalpha() or value.isdigit()
    if len(value) >= _ANYWHERE or (len(value) >= _SHORTEST and not plain):
        yield value
    lines = value.splitlines()
    yield from (line.strip() for line in lines[1:-1] if len(line.strip()) >= _LINE)


def _is_path(value: str) -> bool:
    """Whether it names a file, as variables of credentials often do."""
    try:
        return value.startswith(("/", "~/", "./")) and Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _user_information(text: str) -> Iterator[str]:
    if "://" not in text:
        return
    for given in _CREDENTIALS.findall(text):
        user, sign, password = given.partition(":")
        for one in (password, urllib.parse.unquote(password)):
            yield from _worth(one)
        if not sign and len(user) >= _USER_ALONE:
            yield user


def _spellings(value: str) -> Iterator[str]:
    yield value
    yield urllib.parse.quote(value)
    yield urllib.parse.quote(value, safe="")
    yield urllib.parse.quote_plus(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield json.dumps(json.dumps(value)[1:-1])[1:-1]
    yield repr(value)[1:-1]
    content = value.encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # Wherever it begins in what is encoded; its first and last characters depend on that.
            whole = encode(b"\0" * before + content).decode().rstrip("=")
            spare = 1 if (before + len(content)) % 3 else 0
            yield whole[(0, 2, 3)[before] : len(whole) - spare]
