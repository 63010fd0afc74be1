"""A function in a process forked from this one, which has its imports already."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TextIO

from runner.util.processes import die_with_parent


class Forked:
    """One that has been started: read ``output`` to its end, then ``wait``.

    No process that has computed with threads may fork: libraries' pools do not survive it.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        """Start it.

        Args:
            work: What it does. It ends as a program does: by returning, by an exception, whose
                traceback it prints, or by ``SystemExit``.
        """
        reading, writing = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or both would write what is left
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reading)
            _carry_out(work, writing)
        os.close(writing)
        self.output: TextIO = os.fdopen(reading, encoding="utf-8", errors="replace")
        """What it prints, errors among it."""
        self._code: int | None = None

    def wait(self) -> int:
        """Its exit code, once it is over; negative: the signal that ended it."""
        if self._code is None:
            self.output.close()
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def end(self) -> None:
        """Kill it, unless it is over."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self.wait()


def _carry_out(work: Callable[[], None], output: int) -> None:
    """In the new process, which ends here."""
    code = 1
    try:
        die_with_parent()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for wanted, given in enumerate((nothing, output, output)):
            os.dup2(given, wanted)
        sys.stdout, sys.stderr = (
            os.fdopen(one, "w", buffering=1, encoding="utf-8", errors="replace") for one in (1, 2)
        )
        work()
        code = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
