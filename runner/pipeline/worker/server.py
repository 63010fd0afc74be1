"""Warm parent of workers: imports an environment's modules once and forks a child per job.

Run as ``python -m runner.pipeline.worker.server --patches=PATCH,… --reused=PATTERN,… MODULE…``. It
also imports what several jobs have imported, see ``habits``. It does no numerical work itself:
a process that has started threads of a numerical library must not fork.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from runner.pipeline.worker.habits import Habits
from runner.pipeline.worker.job import run_job, send
from runner.pipeline.worker.model_cache import ModelCache
from runner.pipeline.worker.protocol import Job
from runner.util.gpus import VISIBLE, uses_cuda
from runner.util.processes import die_with_parent

_POLL_SECONDS = 0.02
CLOSING_SECONDS = 5.0
"""Time that a process which keeps a model is given to free it."""


@dataclass(frozen=True)
class _Child:
    """A process that carries out jobs."""

    pid: int
    model: str | None
    """What it keeps once its job is done; ``None``: it ends."""
    jobs: int
    """Written to: further jobs, a line each. It ends when this is closed."""
    done: int
    """Read from: a line for each job that went well, with what it imported."""

    def forget(self) -> None:
        os.close(self.jobs)
        os.close(self.done)


def main() -> None:
    """Serve jobs from standard input until it closes."""
    die_with_parent()
    events = os.dup(1)
    # Libraries that print while they are imported must not disturb the event stream.
    os.dup2(2, 1)
    patches, reused, *modules = sys.argv[1:]
    # What is imported stays: looking through it for what is not takes a quarter of the imports.
    gc.disable()
    for name in filter(None, patches.removeprefix("--patches=").split(",")):
        importlib.import_module(f"runner.environments.patches.{name}").apply()
    for name in modules:
        importlib.import_module(name)
    if modules and uses_cuda():
        # No process forked from this one could use it. The jobs import for themselves then.
        os.dup2(events, 1)
        program = [sys.executable, "-m", "runner.pipeline.worker.server", patches, reused]
        os.execv(sys.executable, program)
    gc.freeze()
    gc.enable()
    send(events, event="ready", pid=os.getpid())
    habits = Habits(reused.removeprefix("--reused=").split(","), bool(os.environ.get(VISIBLE)))
    keeper: _Child | None = None
    for line in _lines(0):
        content = json.loads(line)
        job = None if content is None else Job(**content)
        if keeper is not None and _is_gone(keeper):
            keeper = None
        if keeper is not None and _must_go(keeper, job):
            _end(keeper)
            keeper = None
        if job is None:
            send(events, event="released")
        else:
            keeper = _serve(job, line, events, keeper, habits)
    if keeper is not None:
        _end(keeper)


def _is_gone(keeper: _Child) -> bool:
    """Whether it ended while it waited: what holds a model is what a full memory is freed by."""
    ended, _ = os.waitpid(keeper.pid, os.WNOHANG)
    if ended:
        keeper.forget()
    return bool(ended)


def _must_go(keeper: _Child, job: Job | None) -> bool:
    return job is None or not (job.beside or job.model == keeper.model)


def _serve(
    job: Job, line: bytes, events: int, keeper: _Child | None, habits: Habits
) -> _Child | None:
    """Have a job carried out; returns the process that keeps a model afterwards."""
    if keeper is not None and job.model == keeper.model:
        child = keeper
        os.write(child.jobs, line + b"\n")
    else:
        child = _fork(job, events, habits)
    status, imported = _wait(child, keeper)
    code: int | None = 0
    killed_by = None
    if status is not None:
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    send(events, event="exit", code=code, signal=killed_by)
    # The control side has the result meanwhile.
    habits.learn(imported)
    if status is None:
        return child
    child.forget()
    return None if child is keeper else keeper


def _fork(job: Job, events: int, habits: Habits) -> _Child:
    jobs, jobs_end = os.pipe()
    done_end, done = os.pipe()
    # Whatever is imported stays: no collection in a child looks through it, nor copies its pages.
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        os.close(jobs_end)
        os.close(done_end)
        code = 1
        try:
            code = _work(job, events, jobs, done, habits)
        finally:
            os._exit(code)
    os.close(jobs)
    os.close(done)
    return _Child(pid, job.model, jobs_end, done_end)


def _work(job: Job, events: int, jobs: int, done: int, habits: Habits) -> int:
    """In a child: one job, and those that need the same model; returns the exit code."""
    die_with_parent()
    os.setpgid(0, 0)
    cache = ModelCache()
    before = [*sys.modules]
    code = run_job(job, events, cache)
    if code == 0:
        _tell(done, habits.since(before))
    if job.model is None or code != 0:
        return code
    for line in _lines(jobs):
        before = [*sys.modules]
        code = run_job(Job(**json.loads(line)), events, cache)
        if code != 0:
            return code
        _tell(done, habits.since(before))
    cache.close()
    return 0


def _tell(done: int, imported: list[str]) -> None:
    line = (json.dumps(imported) + "\n").encode()
    while line:
        line = line[os.write(done, line) :]


def _wait(child: _Child, keeper: _Child | None) -> tuple[int | None, list[str]]:
    """Wait for the child; returns its status and what it imported.

    The status is ``None`` when it waits for another job. Ends all of them and this process when the
    control process is gone.
    """
    imported: list[str] = []
    watched = [0, child.done]
    while True:
        ended, status = os.waitpid(child.pid, os.WNOHANG)
        if ended:
            return status, imported
        readable, _, _ = select.select(watched, [], [], _POLL_SECONDS)
        # Control sends nothing while a job runs, so readable means closed.
        if 0 in readable:
            for one in filter(None, (child, keeper)):
                _kill(one)
            os._exit(1)
        if child.done in readable:
            line = next(_lines(child.done), None)
            if line is None:
                watched.remove(child.done)  # it is about to end
                continue
            imported = json.loads(line)
            if child.model is not None:
                return None, imported


def _end(keeper: _Child) -> None:
    """Have the process that keeps a model free it and end, in good time or by force."""
    keeper.forget()
    deadline = time.monotonic() + CLOSING_SECONDS
    ended = 0
    while not ended and time.monotonic() < deadline:
        ended, _ = os.waitpid(keeper.pid, os.WNOHANG)
        time.sleep(_POLL_SECONDS)
    _kill(keeper)
    if not ended:
        os.waitpid(keeper.pid, 0)


def _kill(child: _Child) -> None:
    """Kill a child and whatever it has started."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child.pid, signal.SIGKILL)


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines as they come, until the other side closes."""
    pending = b""
    while chunk := os.read(descriptor, 65536):
        *whole, pending = (pending + chunk).split(b"\n")
        yield from whole


if __name__ == "__main__":
    main()
    # Taking a million objects apart one by one takes a second.
    atexit._run_exitfuncs()
    os._exit(0)
