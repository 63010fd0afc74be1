"""The warm parent of workers: imports an environment's modules once and forks a child a job.

Run as ``python -m runner.worker.server --shims=SHIM,… MODULE…``. It does no numerical work
itself: a
process that has started threads of a numerical library must not fork.
"""

import importlib
import json
import os
import select
import signal
import sys
import time

from runner.worker.job import die_with_parent, run_job, send
from runner.worker.protocol import Job

_POLL_SECONDS = 0.02


def main() -> None:
    """Serve jobs from standard input until it closes."""
    die_with_parent()
    events = os.dup(1)
    # Libraries that print while they are imported must not disturb the event stream.
    os.dup2(2, 1)
    shims, *modules = sys.argv[1:]
    for name in filter(None, shims.removeprefix("--shims=").split(",")):
        importlib.import_module(f"runner.shims.{name}").apply()
    for name in modules:
        importlib.import_module(name)
    send(events, event="ready", pid=os.getpid())
    pending = b""
    while True:
        chunk = os.read(0, 65536)
        if not chunk:
            return
        pending += chunk
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            _serve(Job(**json.loads(line)), events)


def _serve(job: Job, events: int) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = run_job(job, events)
        finally:
            os._exit(code)
    status = _wait(child)
    send(
        events,
        event="exit",
        code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
    )


def _wait(child: int) -> int:
    """Wait for the child; end it and this process when the control process is gone."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        readable, _, _ = select.select([0], [], [], 0)
        # Control sends nothing while a job runs, so readable means closed.
        if readable:
            os.kill(child, signal.SIGKILL)
            os._exit(1)
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
