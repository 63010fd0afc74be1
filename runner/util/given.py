"""Files from outside: only regular files are read, up to a limit.

A device, a pipe or a socket never ends, a text of a hundred thousand brackets ends a parser, and
a count in a head may be any number. What is wrong is said in one sentence that names the file.
"""

import errno
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from runner.errors import UsageError

MB = 1_000_000
_DEEPEST = 64
"""Levels of nesting; a tokenizer has eight."""
_LONGEST_SHOWN = 200
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_WHY = {
    errno.EACCES: "cannot be read: permission denied",
    errno.EPERM: "cannot be read: permission denied",
    errno.ELOOP: "is a link that leads back to itself",
    errno.ENAMETOOLONG: "has a name longer than file systems allow",
    errno.ENOTDIR: "is not below a directory",
}


class FileFault(UsageError, ValueError):
    """What is wrong with a file; ``what`` goes on after its name."""

    def __init__(self, path: Path, what: str) -> None:
        """Say of a file what is wrong."""
        super().__init__(f"{shown(path)} {what}")
        self.path = path
        self.what = what


def shown(name: object) -> str:
    """A name that somebody else gave, on one line: no control characters, and not all of it."""
    text = str(name)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def user_path(text: str, setting: str) -> Path:
    """A path that a setting names, with ``~`` for the home directory.

    Raises:
        UsageError: No file can be called so, or it may not be looked at.
    """
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path raises where nobody's home is meant
    try:
        path.stat()
    except ValueError:
        raise UsageError(f"{setting}={shown(text)} is not a valid path") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES):
            raise UsageError(f"{setting}={shown(text)} {_WHY[error.errno]}") from None
    return path


def require_regular(path: Path) -> os.stat_result:
    """See that there is a regular file, behind all links; returns its status.

    Raises:
        FileFault: There is none, or it is something else.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        _raise(path, error)
    _require(status, path)
    return status


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; nothing else is even waited for.

    Raises:
        FileFault: There is none, it is something else, or it may not be read.
    """
    require_regular(path)  # opening some devices does something
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        _raise(path, error)
    try:
        _require(os.fstat(handle), path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int) -> bytes:
    """All of a regular file.

    Args:
        path: The file.
        most: Bytes that such a file may have.

    Raises:
        FileFault: It is no regular file, empty or longer.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise FileFault(path, f"is larger than {most / MB:g} MB, the limit for such a file")
        if not size:
            raise FileFault(path, "is empty: download or save it again")
        try:
            return stream.read(size)
        except OSError as error:
            _raise(path, error)


def read_json(path: Path, most: int = 16 * MB) -> Any:
    """The JSON value in a file, if all readers of JSON take it for the same.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        FileFault: It is no regular file, or too large, or not UTF-8, or no JSON, or has a key
            twice with two values, ``NaN``, or hundreds of levels.
    """
    content = read_bytes(path, most)
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_constant
        )
    except UnicodeDecodeError as error:
        raise FileFault(path, f"is not JSON: byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise FileFault(path, "cannot be read: it is nested too deeply") from None
    except ValueError as error:
        raise FileFault(path, f"is not JSON: {shown(error)}") from None
    if _is_deeper(value, _DEEPEST):
        raise FileFault(path, f"is nested more than {_DEEPEST} levels deep, which is not supported")
    return value


def read_object(path: Path, most: int = 16 * MB) -> dict[str, Any]:
    """As ``read_json``, of a file that holds an object.

    Raises:
        FileFault: As there, or it holds something else.
    """
    value = read_json(path, most)
    if not isinstance(value, dict):
        raise FileFault(path, "is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen and seen[key] != value:
                raise ValueError(f"it has {shown(key)!r} twice, with different values")
            seen[key] = value
    return unique


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("it contains NaN, which is not a number")
    return float(name)  # some models' limits are infinite


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [one for outer in level for one in _inside(outer) if isinstance(one, dict | list)]
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _require(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_one, name in _KINDS if is_one(status.st_mode)), "something else")
        raise FileFault(path, f"is {kind}, not a regular file")


def _raise(path: Path, error: OSError | ValueError) -> NoReturn:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT:
        what = "is a broken link" if os.path.islink(path) else "is not there"  # noqa: PTH114
    elif number in _WHY:
        what = _WHY[number]
    elif number is None:
        what = "is not a valid file name"
    else:
        what = f"cannot be read: {os.strerror(number)}"
    raise FileFault(path, what) from None
