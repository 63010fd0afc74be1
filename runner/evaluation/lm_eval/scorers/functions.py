"""Scores functions by running them: a model's code, in a process of its own with limits.

The process gets the code and the arguments of the calls, and not the right results: those stay
here, and what the code returned is compared as text. Whatever the code prints, patches or leaves
behind, nothing but a right result counts as one.

The process has no environment, an empty directory to be in, little memory and processor time, and
can write no file of any length (resource limits). Where the kernel lets users have namespaces, it
has no network, no other process in sight, and every file system read-only; everywhere an audit
hook refuses what small functions do not need (files but for Python's own modules, processes,
sockets, ctypes). That stops accidents. Against a model that was trained to break out, run the whole
evaluation in a container or a virtual machine.
"""

import ast
import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PROCESSOR_SECONDS = 2
_WALL_SECONDS = 10
_MEMORY_BYTES = 512 * 2**20
_OUTPUT_BYTES = 64 * 2**10
_OPEN_FILES = 32
_MOST_CHARACTERS = 100_000
"""Of an answer that are looked at."""
_READY = "ready"
_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_GOES_ON = ("def ", "import ", "from ", "@", "class ", "#")
"""With which a line that is not indented may begin in a module of one function."""


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Shares of one answer.

    Args:
        doc: The item: ``function``, the ``calls`` and their ``results``.
        results: What the model wrote.

    Returns:
        ``acc``: 1 if every call returned what it should. ``tests``: the share of calls that did.
        ``runs``: 1 if every call returned something.

    Raises:
        RuntimeError: No process could be started; the answer has nothing to do with it.
    """
    calls, expected = json.loads(doc["calls"]), json.loads(doc["results"])
    sources = list(_readings(doc["text"], doc["function"], results[0][:_MOST_CHARACTERS]))
    returned = _run(sources, doc["function"], calls) if sources else []
    returned += [None] * (len(expected) - len(returned))
    passed = sum(a == b for a, b in zip(returned, expected, strict=False))
    return {
        "acc": float(passed == len(expected)),
        "tests": passed / len(expected),
        "runs": float(None not in returned),
    }


def _readings(prompt: str, name: str, answer: str) -> Iterator[str]:
    """Modules that an answer can be read as: a body that goes on, or the whole function again."""
    fenced = _FENCED.search(answer)
    code = (fenced.group(1) if fenced else answer).expandtabs(4)
    lines = code.splitlines()
    while lines and not lines[0].strip():
        del lines[0]
    if not lines:
        return
    if lines[0].startswith(" "):
        yield "\n".join([prompt, *_while_indented(lines)])
    heads = [place for place, line in enumerate(lines) if line.startswith(f"def {name}(")]
    if heads:
        before = [line for line in lines[: heads[0]] if line.startswith(("import ", "from "))]
        yield "\n".join([*before, *_one_module(lines[heads[0] :])])
    # A chat template, or the model, may have taken all indentation away, or the first line's.
    yield "\n".join([prompt, *(f"    {line}" for line in lines)])
    yield "\n".join([prompt, "    " + lines[0].strip(), *_while_indented(lines[1:])])


def _while_indented(lines: list[str]) -> list[str]:
    for place, line in enumerate(lines):
        if line.strip() and not line.startswith(" "):
            return lines[:place]
    return lines


def _one_module(lines: list[str]) -> list[str]:
    """Lines of code up to what a model says about it."""
    for place, line in enumerate(lines):
        if line.strip() and not line.startswith((" ", ")", *_GOES_ON)):
            return lines[:place]
    return lines


def _run(sources: list[str], name: str, calls: list[str]) -> list[str | None]:
    """What a function returned to each call, as ``repr`` writes it; ``None`` where it failed."""
    request = json.dumps({"sources": sources, "name": name, "calls": calls}).encode()
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as written,
    ):
        given.write(request)
        given.seek(0)
        with subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
            stdin=given,
            stdout=written,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env={},
            start_new_session=True,
        ) as process:
            try:
                process.wait(_WALL_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:
                # The process itself has ended by then, or does now; what it started does too.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        written.seek(0)
        lines = written.read(_OUTPUT_BYTES).decode("utf-8", "replace").splitlines()
    if lines[:1] != [_READY]:
        raise RuntimeError(
            f"the process that runs a model's code did not start (exit code {process.returncode}); "
            "its answers cannot be scored"
        )
    return [_result(line) for line in lines[1 : len(calls) + 1]]


def _result(line: str) -> str | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


# What follows runs in the process.


def _main() -> None:
    """Confine this process, then run what it was given."""
    request = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    os.write(out, f"{_READY}\n".encode())
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    _unshare()
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _limit()
    sys.addaudithook(_guard())
    for found in _answers(request["sources"], request["name"], request["calls"]):
        os.write(out, json.dumps(found).encode() + b"\n")
    os._exit(0)


def _unshare() -> None:
    """Leave the network, the other processes and the right to write, where the kernel allows it."""
    import ctypes

    new_user, new_mounts, new_processes = 0x10000000, 0x00020000, 0x20000000
    new_network, new_messages = 0x40000000, 0x08000000
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = new_user | new_mounts | new_processes | new_network | new_messages
    if libc.unshare(wanted) != 0:
        return
    # mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, {MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, 0}, 32)
    attributes = (ctypes.c_uint64 * 4)(1, 0, 1 << 18, 0)
    here, recursive, number = -100, 0x8000, 442
    libc.syscall(number, here, b"/", recursive, attributes, 32)


def _limit() -> None:
    """Resource limits, and an end with the process that waits for this one."""
    import ctypes

    end_with_parent = 1
    ctypes.CDLL(None).prctl(end_with_parent, signal.SIGKILL)
    for kind, most in (
        (resource.RLIMIT_CPU, _PROCESSOR_SECONDS),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, _OUTPUT_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        # A lower limit may be in force.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def _guard() -> Any:
    """A hook that refuses every audited event but those of computing and importing."""
    allowed = frozenset(
        ("compile", "exec", "code.__new__", "function.__new__", "object.__getattr__",
         "object.__setattr__", "object.__delattr__", "builtins.id", "array.__new__",
         "marshal.loads", "sys._getframe", "sys.excepthook")
    )  # fmt: skip
    refused = frozenset(("ctypes", "_ctypes", "_posixsubprocess", "cffi", "__main__"))
    library = str(Path(os.__file__).resolve().parent) + os.sep
    real_path, writing = os.path.realpath, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

    def is_library(path: Any) -> bool:
        return isinstance(path, str) and (real_path(path) + os.sep).startswith(library)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in allowed:
            return
        if event == "import" and str(arguments[0]).partition(".")[0] not in refused:
            return
        if event == "open" and is_library(arguments[0]) and not arguments[2] & writing:
            return
        if event in ("os.listdir", "os.scandir") and is_library(arguments[0]):
            return
        raise PermissionError(f"{event} is not allowed")

    return hook


def _answers(sources: list[str], name: str, calls: list[str]) -> Iterator[str | None]:
    function = _function(sources, name)
    if function is None:
        return
    for call in calls:
        try:
            found = function(*ast.literal_eval(f"({call},)"))
            yield repr(found) if _is_plain(found, 0) else None
        # A model's code may raise anything, an exit among it.
        except BaseException:
            yield None


def _function(sources: list[str], name: str) -> Any:
    """The function that the first reading which can be compiled defines."""
    for source in sources:
        try:
            code = compile(source, "<answer>", "exec")
        except BaseException:
            continue
        space: dict[str, Any] = {"__name__": "answer"}
        try:
            exec(code, space)
        except BaseException:
            return None
        return space.get(name)
    return None


def _is_plain(value: Any, depth: int) -> bool:
    """Whether ``repr`` of a value is Python's own, and not written by the model's class."""
    if type(value) in (list, tuple):
        return depth < 10 and len(value) < 10_000 and all(_is_plain(v, depth + 1) for v in value)
    return type(value) in (int, float, str, bool, type(None)) and (
        type(value) is not str or len(value) < _OUTPUT_BYTES
    )


if __name__ == "__main__":
    _main()
