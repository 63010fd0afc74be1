"""Decodes a user's file as UTF-8; errors name the file and the line."""

import bz2
import codecs
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from runner.config.schema.text import TextErrors
from runner.errors import UsageError
from runner.util.given import MB, FileFault, open_regular

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


_MOST_WHOLE_BYTES, _LONGEST_LINE_BYTES = 2_000 * MB, 256 * MB
_MOST_TIMES, _ALWAYS_BYTES = 100, 64 * MB
"""How much more than its size a packed file may hold: text is packed to a tenth, seldom to less
than a thirtieth; and what it may hold in any case."""
_UNPACKED_BY: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}


class _Unpacked(io.RawIOBase):
    """What a packed file holds, up to what such a file can reasonably hold."""

    def __init__(self, path: Path, packed: BinaryIO) -> None:
        """Unpack by the end of the file's name."""
        self._path, self._packed = path, packed
        self._stream: Any = _UNPACKED_BY[path.suffix.lower()](packed)
        self._most = most_unpacked(path.stat().st_size)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as view:
            content = self._stream.read1(len(view))
            view[: len(content)] = content
        self._read += len(content)
        if self._read > self._most:
            raise FileFault(
                self._path,
                f"unpacks to more than {self._most / MB:.0f} MB, {_MOST_TIMES} times its size: if "
                "that is intended, unpack it and set path to the unpacked file",
            )
        return len(content)

    def close(self) -> None:
        self._packed.close()
        super().close()


def most_unpacked(size_bytes: int) -> int:
    """Bytes that a packed file of a size may hold."""
    return max(_ALWAYS_BYTES, _MOST_TIMES * size_bytes)


def open_bytes(path: Path) -> BinaryIO:
    """A regular file's content, unpacked if its name ends with ``.gz`` or ``.bz2``.

    Raises:
        FileFault: It is no regular file; when read, it unpacks to far more than it is.
    """
    packed = open_regular(path)
    if path.suffix.lower() not in _UNPACKED_BY:
        return packed
    return io.BufferedReader(_Unpacked(path, packed), 1 << 20)


def read_text(path: Path, errors: TextErrors) -> str:
    r"""A whole file, without its byte-order mark, lines ended by ``\n`` alone.

    Raises:
        UsageError: It is not UTF-8, or holds a NUL byte, and ``errors`` is strict.
        OSError, EOFError: It cannot be read.
    """
    with open_bytes(path) as stream:
        if path.stat().st_size > _MOST_WHOLE_BYTES:
            raise _too_large(path)
        content = stream.read(_MOST_WHOLE_BYTES + 1)
    if len(content) > _MOST_WHOLE_BYTES:
        raise _too_large(path)
    _refuse_wide(content, path)
    if errors is not TextErrors.replace:
        for number, line in enumerate(content.split(b"\n"), start=1):
            _decoded(line, number, path, errors)
    text = content.decode("utf-8", "replace").replace("\0", _REPLACED)
    return with_line_feeds(text.removeprefix(_MARK))


def _too_large(path: Path) -> FileFault:
    most = _MOST_WHOLE_BYTES / MB
    return FileFault(path, f"contains more than {most:.0f} MB in one piece")


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
        lines = iter(lambda: stream.readline(_LONGEST_LINE_BYTES), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) == _LONGEST_LINE_BYTES:
                most = _LONGEST_LINE_BYTES / MB
                raise FileFault(path, f"has a line of more than {most:.0f} MB, line {number}")
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
    match = _SURROGATE.search(text)
    if match is None:
        return text
    if errors is not TextErrors.replace:
        raise UsageError(
            f"{place} has a lone surrogate (\\u{ord(match[0]):04x}), which is not a character; fix "
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
            f"{path} has a NUL byte in line {number}, so it is not text, or not encoded in "
            f"UTF-8; set another path, convert it with iconv{_otherwise(errors)}"
        )
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 (line {number} has a byte 0x{line[error.start]:02x} where none "
            f"can be); convert it with iconv -t UTF-8{_otherwise(errors)}"
        ) from None
