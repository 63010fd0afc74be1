"""Logs of the runner's child processes: bounded, with secrets masked.

What a process prints goes through a pipe to whoever started it. So a program that prints without
end, without a newline, or no text at all fills neither a disk nor a memory.
"""

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO

from runner.util.redact import redact_bytes
from runner.util.secrets.shapes import CLOSING, OPENING

LIMIT_BYTES = 10_000_000
"""Most that a log takes: its first and its last half."""
_CHUNK_BYTES = 65_536
_OVERLAP_BYTES = 4_096
"""Of a line without an end that is kept back, so that no secret is cut in two."""
_KEPT_BACK_BYTES = 32_768
"""Of a private key that has not come to its end."""
_PIPE_BYTES = 1_048_576
"""Most that the kernel keeps of what nobody has read."""
LINE_CHARACTERS = 300
"""Of a line that is shown to a person or kept in a record."""


class BoundedLog:
    """A file that keeps the first and the last of what is written to it."""

    def __init__(self, path: Path, limit: int = LIMIT_BYTES, *, after_others: bool = False) -> None:
        """Begin a new file, or go on after what stands in it.

        Args:
            path: Its folder is made when it is not there.
            limit: Bytes that it may take, but for the line that says what was left out.
            after_others: Keep what earlier ones wrote, shortened to as much again at most.
        """
        self.path = path
        self._half = limit // 2
        self._written = 0
        self._dropped = 0
        self._pending = b""
        self._last: deque[bytes] = deque()
        self._last_bytes = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        if after_others and path.exists() and path.stat().st_size > limit:
            shorten(path, limit)
        self._stream: BinaryIO = path.open("ab" if after_others else "wb", buffering=0)

    def write(self, content: bytes) -> None:
        """Append what was printed; whole lines are there at once, until half the room is full."""
        if self._stream.closed:
            return
        if self._written >= self._half:
            self._keep(self._pending + content)
            self._pending = b""
            return
        whole, self._pending = _at_a_safe_place(self._pending + content)
        self._put(redact_bytes(whole))

    def close(self) -> None:
        """Write what is left; nothing can be added any more."""
        if self._stream.closed:
            return
        rest, self._pending = redact_bytes(self._pending), b""
        self._put(rest)
        with contextlib.suppress(OSError):
            self._stream.write(self._end())
        self._last.clear()
        self._stream.close()

    def _end(self) -> bytes:
        """The last half, and what was left out before it."""
        tail = b"".join(self._last)
        spare = max(0, len(tail) - self._half)
        self._dropped, tail = self._dropped + spare, tail[spare:]
        if not self._dropped:
            return redact_bytes(tail)
        # What is cut may begin in the midst of a secret.
        _, newline, after = tail[:_OVERLAP_BYTES].partition(b"\n")
        begin = len(tail[:_OVERLAP_BYTES]) - len(after) if newline else _OVERLAP_BYTES
        left_out = (
            f"\n[{self._dropped + begin:,} bytes omitted: a log keeps its first and its last "
            f"{self._half:,}]\n"
        )
        return left_out.encode() + redact_bytes(tail[begin:])[-self._half :]

    def last_lines(self, most: int) -> list[str]:
        """The last lines that say something; the log is closed first."""
        self.close()
        return last_lines(self.path, most)

    def _put(self, content: bytes) -> None:
        room = self._half - self._written
        # A disk that is full costs the log, never the work.
        with contextlib.suppress(OSError):
            self._stream.write(content[:room])
        self._written += len(content[:room])
        if content[room:]:
            self._keep(content[room:])

    def _keep(self, content: bytes) -> None:
        self._last.append(content)
        self._last_bytes += len(content)
        while self._last_bytes - len(self._last[0]) > self._half:
            self._last_bytes -= len(self._last[0])
            self._dropped += len(self._last.popleft())


class Pump:
    """Reads a pipe in a thread of its own and hands what comes to a log.

    A process gets ``end`` as its standard output and error.
    """

    def __init__(self, log: BoundedLog) -> None:
        """Open the pipe; what comes goes to ``log``."""
        self._log = log
        self._is_closed = False
        self._lock = threading.Lock()
        self._source, self.end = os.pipe()
        self._stopped, self._stop = os.pipe()
        os.set_blocking(self._source, False)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def started(self) -> None:
        """The process has its end of the pipe: let go of ours."""
        os.close(self.end)

    def turn_to(self, log: BoundedLog) -> BoundedLog:
        """Hand all that is printed from now on to another log; returns the one before."""
        with self._lock:
            if not self._is_closed:
                self._drain()
            before, self._log = self._log, log
        return before

    def last_lines(self, most: int) -> list[str]:
        """As a log's, of all that has been printed; what comes later is dropped."""
        with self._lock:
            self._drain()
            return self._log.last_lines(most)

    def close(self) -> None:
        """Take what has been printed, and no more."""
        if self._is_closed:
            return
        self._is_closed = True
        os.close(self._stop)
        self._thread.join()
        with self._lock:
            self._drain()
            self._log.close()
        for descriptor in (self._source, self._stopped):
            os.close(descriptor)

    def _run(self) -> None:
        while True:
            readable, _, _ = select.select([self._source, self._stopped], [], [])
            if self._stopped in readable or not self._take():
                return

    def _take(self) -> bool:
        """Read once; returns whether more may come."""
        with self._lock, contextlib.suppress(BlockingIOError):
            content = os.read(self._source, _CHUNK_BYTES)
            self._log.write(content)
            return bool(content)
        return True

    def _drain(self) -> None:
        """Read what lies in the pipe now. Somebody may be printing without end."""
        read = 0
        with contextlib.suppress(BlockingIOError):
            while read < _PIPE_BYTES and _waiting(self._source):
                content = os.read(self._source, _CHUNK_BYTES)
                self._log.write(content)
                read += len(content)


def shorten(path: Path, limit: int = LIMIT_BYTES) -> None:
    """Cut a log that is appended to: its first half and its last quarter stay."""
    with path.open("rb") as stream:
        first = stream.read(limit // 2)
        size = path.stat().st_size
        stream.seek(max(len(first), size - limit // 4))
        last = stream.read()
    left_out = f"\n[{size - len(first) - len(last):,} bytes omitted]\n"
    path.write_bytes(first + left_out.encode() + last)


def last_lines(path: Path, most: int) -> list[str]:
    """The last lines of a log that say something, each cut to what can be shown.

    Of a progress bar, which overwrites its line, what stood there last counts.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - LIMIT_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return shown_lines(text)[-most:]


def shown_lines(printed: bytes | str) -> list[str]:
    """Lines that say something, each cut to what can be shown."""
    text = printed if isinstance(printed, str) else printed.decode("utf-8", "replace")
    return [_shown(line.strip("\r")) for line in text.splitlines() if line.strip()]


def _shown(line: str) -> str:
    line = "".join(one if one.isprintable() or one == "\t" else "\N{REPLACEMENT CHARACTER}"
                   for one in line[: LINE_CHARACTERS + 1])  # fmt: skip
    return line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}…"


def _at_a_safe_place(content: bytes) -> tuple[bytes, bytes]:
    """Cut what was printed where no secret is cut; the second part is to be kept back."""
    end = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1
    if len(content) - end > _CHUNK_BYTES:
        # Masked before it is cut: what lies across the cut is whole now or is kept back.
        content = redact_bytes(content)
        end = max(end, len(content) - _OVERLAP_BYTES)
    opened = content.rfind(OPENING.encode(), 0, end)
    is_open = opened >= 0 and content.find(CLOSING.encode(), opened) < 0
    if is_open and len(content) - opened < _KEPT_BACK_BYTES:
        end = opened
    return content[:end], content[end:]


def _waiting(descriptor: int) -> int:
    """Bytes that can be read at once."""
    answer = fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])
