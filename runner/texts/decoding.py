"""Bytes of a user's file as text, with the file and the line where they are none."""

import codecs
import gzip
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from runner.config.text import TextErrors
from runner.errors import UsageError

_WIDE = {
    # The longer mark first: it begins with the shorter one.
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_MARK = "\ufeff"
_REPLACED = "\ufffd"
_SURROGATE = re.compile("[\ud800-\udfff]")


def open_bytes(path: Path) -> BufferedReader | gzip.GzipFile:
    """A file's content, unpacked if its name ends with ``.gz``."""
    return gzip.GzipFile(path) if path.suffix.lower() == ".gz" else path.open("rb")


def read_text(path: Path, errors: TextErrors) -> str:
    r"""A whole file, without its byte-order mark, lines ended by ``\n`` alone.

    Raises:
        UsageError: It is not UTF-8, or holds a NUL byte, and ``errors`` is strict.
        OSError, EOFError: It cannot be read.
    """
    with open_bytes(path) as stream:
        content = stream.read()
    _refuse_wide(content, path)
    if errors is not TextErrors.replace:
        for number, line in enumerate(content.split(b"\n"), start=1):
            _decoded(line, number, path, errors)
    text = content.decode("utf-8", "replace").replace("\0", _REPLACED)
    return with_line_feeds(text.removeprefix(_MARK))


def with_line_feeds(text: str) -> str:
    r"""A text whose lines are ended by ``\n``, whatever system it was written on."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, errors: TextErrors | None) -> Iterator[tuple[int, str]]:
    r"""Lines that are not blank, numbered from 1, without byte-order marks and line ends.

    Lines are ended by ``\n`` or ``\r\n``; a U+2028 within one is part of it.

    Args:
        path: The file.
        errors: What becomes of bytes that are no text; ``None`` where nobody can set that.

    Raises:
        UsageError, OSError, EOFError: As ``read_text``.
    """
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                _refuse_wide(line, path)
            if text := _decoded(line, number, path, errors).removeprefix(_MARK).strip():
                yield number, text


def require_encodable(text: str, place: str, errors: TextErrors | None) -> str:
    r"""A text that UTF-8 can hold: JSON may escape halves of surrogate pairs (``"\ud800"``).

    Args:
        text: As it was read.
        place: Where it stands, for the message.
        errors: What becomes of what no encoding holds.

    Raises:
        UsageError: It has a half without the other, and ``errors`` is strict.
    """
    found = _SURROGATE.search(text)
    if found is None:
        return text
    if errors is not TextErrors.replace:
        raise UsageError(
            f"{place} has a lone surrogate (\\u{ord(found[0]):04x}), which is no character; mend "
            f"it{_otherwise(errors)}"
        )
    return _SURROGATE.sub(_REPLACED, text)


def _otherwise(errors: TextErrors | None) -> str:
    if errors is None:
        return ""
    return ", or set errors=replace beside the text's path to read U+FFFD there"


def _refuse_wide(content: bytes, path: Path) -> None:
    for mark, name in _WIDE.items():
        if content.startswith(mark):
            raise UsageError(
                f"{path} is {name}, as its byte-order mark says; convert it with iconv -f {name} "
                "-t UTF-8"
            )


def _decoded(line: bytes, number: int, path: Path, errors: TextErrors | None) -> str:
    if errors is TextErrors.replace:
        return line.decode("utf-8", "replace").replace("\0", _REPLACED)
    if b"\0" in line:
        raise UsageError(
            f"{path} has a NUL byte in line {number}, so it is no text, or in an encoding other "
            f"than UTF-8; set another path, convert it with iconv{_otherwise(errors)}"
        )
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 (line {number} has a byte 0x{line[error.start]:02x} where none "
            f"can be); convert it with iconv -t UTF-8{_otherwise(errors)}"
        ) from None
