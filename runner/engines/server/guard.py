"""Process between a worker and a server, so that no server outlives its worker.

Run as a script: ``guard.py FD SECONDS COMMAND…``. The worker holds the other end of the pipe FD.
When that end is closed, because the worker is done or because it was killed, the server and all
it has started are ended: politely, and after so many seconds not. A signal at the parent's death
is not enough: a vLLM that is still starting takes no notice of SIGTERM, and SIGKILL for it alone
leaves its engine behind.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

_POLL_SECONDS = 0.1


def main(watched: int, patience: float, command: list[str]) -> int:
    """Run the command until it ends or the pipe does; returns its exit code.

    Args:
        watched: Descriptor of a pipe's end to read from; nothing is ever written to it.
        patience: Seconds between SIGTERM and SIGKILL.
        command: What to run, in a process group of its own.
    """
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    while server.poll() is None and not select.select([watched], [], [], _POLL_SECONDS)[0]:
        pass
    _signal(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    _signal(server.pid, signal.SIGKILL)
    code = server.wait()
    return 128 - code if code < 0 else code


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
