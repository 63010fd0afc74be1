"""An engine's OpenAI-compatible server as a process: started, waited for, always stopped."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import StageError
from runner.util.logs import BoundedLog, Pump
from runner.util.processes import descendants
from runner.util.surroundings import ELSEWHERE

PORT = "{port}"
"""Stands for the port in a command."""
_POLL_SECONDS = 0.2
_STOP_SECONDS = 10.0
_TAIL_LINES = 6
_GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Requests:
    """What a server is to be ready for."""

    tokenizer: Path
    """The unquantized model's directory."""
    end_tokens: list[int]
    """Tokens that end an answer; requests must not get them."""
    tokens: int
    """Of a request, prompt and answer."""


@dataclass
class ServerCommand:
    """How to start a server for a checkpoint and how to talk to it."""

    arguments: list[str]
    """What follows the interpreter; ``{port}`` is filled in."""
    model: str
    """Name that requests give."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables, besides those of the environment."""
    body: dict[str, Any] = field(default_factory=dict)
    """What every request says besides: how to keep it from ending an answer early."""


@dataclass
class Server:
    """A server that answers."""

    url: str
    guard: int
    """Process id of its guard, whose descendants the server's processes are."""

    def peak_memory_bytes(self) -> int:
        """Sum of the peaks of resident memory of the server and its children."""
        return sum(map(_peak_bytes, self.processes()))

    def processes(self) -> list[int]:
        """Process ids of the server and all it has started."""
        return descendants(self.guard)


@contextlib.contextmanager
def serve(
    python: str, command: ServerCommand, variables: dict[str, str], log: Path, patience: float
) -> Iterator[Server]:
    """Start the server on a free port, send it one request, and stop it at the end.

    Args:
        python: Interpreter of the engine's environment.
        command: What to run.
        variables: Environment variables of the engine's environment.
        log: File for what it prints.
        patience: Seconds until it must have answered the first request.

    Raises:
        StageError: It ended or did not answer in time; the log's last lines are told.
    """
    port = _free_port()
    arguments = [text.replace(PORT, str(port)) for text in command.arguments]
    watched, held = os.pipe()
    pump = Pump(BoundedLog(log))
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", str(_GUARD), str(watched), str(_STOP_SECONDS),
             python, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=pump.end,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables, **command.variables},
            cwd=ELSEWHERE,
            start_new_session=True,
            pass_fds=(watched,),
        )  # fmt: skip
    finally:
        os.close(watched)
        pump.started()
    server = Server(f"http://127.0.0.1:{port}", process.pid)
    try:
        _wait(server, process, command, pump, patience)
        yield server
    except StageError:
        raise
    except Exception as error:
        raise StageError(f"{error}; the server's last lines: {tail(pump)}") from error
    finally:
        os.close(held)
        process.wait()
        pump.close()


def tail(printed: Pump | BoundedLog) -> str:
    """The last lines that were printed, joined."""
    return " | ".join(line.strip() for line in printed.last_lines(_TAIL_LINES))


def _wait(
    server: Server,
    process: subprocess.Popen[bytes],
    command: ServerCommand,
    log: Pump,
    patience: float,
) -> None:
    deadline = time.monotonic() + patience
    while True:
        if (code := process.poll()) is not None:
            raise StageError(f"the server ended with code {code}: {tail(log)}")
        try:
            _call(f"{server.url}/v1/models", None, 5.0)
            break
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise StageError(
                    f"the server did not answer within {patience:.0f} s "
                    f"(serving.startup_timeout_seconds): {tail(log)}"
                ) from None
            time.sleep(_POLL_SECONDS)
    # The first request pays for what is made on first use; it is not measured.
    first = {"model": command.model, "prompt": "Once upon a time", "max_tokens": 2}
    try:
        _call(f"{server.url}/v1/completions", first, max(5.0, deadline - time.monotonic()))
    except (OSError, urllib.error.URLError) as error:
        raise StageError(f"the server refused a request ({error}): {tail(log)}") from None


def _call(url: str, content: dict[str, Any] | None, timeout: float) -> bytes:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    # Never through a proxy: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as response:
        answer: bytes = response.read()
    return answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _peak_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
