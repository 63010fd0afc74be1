"""Control side of the workers: warm servers of each interpreter, one job at a time each."""

import contextlib
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.environments.ready import ReadyEnvironment
from runner.errors import Refused
from runner.pipeline.worker.failed import WorkerFailed
from runner.pipeline.worker.protocol import Job
from runner.pipeline.worker.server import CLOSING_SECONDS
from runner.pipeline.worker.start import Start
from runner.util.gpus import Gpu, visible_variables
from runner.util.logs import BoundedLog, Pump, last_lines
from runner.util.surroundings import ELSEWHERE

_TAIL_LINES = 20
_GRACE_SECONDS = CLOSING_SECONDS + 2
_MOST_STARTS = 3
"""Servers of one environment that are kept warm: of float32, of bfloat16 and of neither, say."""
_SIGNALS = {
    signal.SIGKILL: "killed (SIGKILL; often the kernel's out-of-memory killer)",
    signal.SIGSEGV: "crashed (SIGSEGV)",
    signal.SIGTERM: "terminated (SIGTERM)",
    signal.SIGABRT: "aborted (SIGABRT)",
}

Event = dict[str, Any]


class WorkerPool:
    """Warm servers by environment. Use as a context manager: leaving it ends them all."""

    def __init__(self) -> None:
        """A server is started by the first job that needs it."""
        self._servers: dict[tuple[str, Start], _Server] = {}
        """By environment and how they were started, the one that was used last at the end."""

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.stop()
        self._servers.clear()

    def run(
        self,
        environment: ReadyEnvironment,
        gpus: Sequence[Gpu],
        job: Job,
        on_event: Callable[[Event], None],
    ) -> None:
        """Carry out a job; returns when its result has been written.

        A model that another process keeps is let go of first, unless the job needs little memory.

        Args:
            environment: Where it runs.
            gpus: Those that it finds; none computes on the CPU, whatever a library prefers.
            job: The job.
            on_event: Told of what happens.

        Raises:
            WorkerFailed: The job's process raised, crashed or was killed.
        """
        start = Start.of(environment, Path(job.cache), visible_variables(gpus))
        place = (environment.name, start)
        if not job.beside:
            self._release(besides=place)
        server = self._servers.pop(place, None)
        if server is None or not server.alive:
            self._make_room(environment.name)
            server = _Server(start, Path(job.log).parent)
        self._servers[place] = server
        try:
            server.run(job, on_event)
        except BaseException:
            # One that has told how its job ended waits for the next, warm. Another may be in any
            # state: a fresh one is certain.
            if not server.idle:
                server.stop()
            raise

    def is_warm(self, environment: str) -> bool:
        """Whether an environment's libraries are imported."""
        return any(
            name == environment and server.alive for (name, _), server in self._servers.items()
        )

    def release(self) -> None:
        """Free the memory of models that are kept for another job."""
        self._release(besides=None)

    def _make_room(self, environment: str) -> None:
        """End the servers of an environment that were used longest ago, should there be many."""
        kept = [place for place in self._servers if place[0] == environment]
        for place in kept[: max(0, len(kept) + 1 - _MOST_STARTS)]:
            self._servers.pop(place).stop()

    def _release(self, besides: tuple[str, Start] | None) -> None:
        for place, server in self._servers.items():
            if place != besides:
                server.release()


@contextlib.contextmanager
def keep_workers() -> Iterator[None]:
    """Within the block, sessions of this process share their workers, one after the other."""
    global _kept  # noqa: PLW0603 - one for the process, as the workers are
    if _kept is not None:
        yield
        return
    with WorkerPool() as _kept:
        try:
            yield
        finally:
            _kept = None


def kept_workers() -> WorkerPool | None:
    """The pool that sessions share at the moment, if they do."""
    return _kept


_kept: WorkerPool | None = None


class _Server:
    def __init__(self, start: Start, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._log = BoundedLog(logs / f"server-{uuid.uuid4().hex[:8]}.log")
        self._pump = Pump(self._log)
        try:
            self._process = subprocess.Popen(
                start.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._pump.end,
                env={**os.environ, **dict(start.variables)},
                # A Python before 3.11 would import from here; a job goes to its own place.
                cwd=ELSEWHERE,
                # Ctrl-C reaches the control process alone, which then ends its workers.
                start_new_session=True,
            )
        finally:
            self._pump.started()
        self._job_pid: int | None = None
        self.idle = True
        """It has told how its last job ended."""
        self._keeper: int | None = None
        """Process that keeps a model for another job."""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, job: Job, on_event: Callable[[Event], None]) -> None:
        log = BoundedLog(Path(job.log))
        self._pump.turn_to(log)
        try:
            self._carry_out(job, on_event, log)
        finally:
            self._pump.turn_to(self._log)
            log.close()

    def _carry_out(self, job: Job, on_event: Callable[[Event], None], log: BoundedLog) -> None:
        self.idle = False
        if not job.beside:
            self._keeper = None
        try:
            self._send(asdict(job))
        except BrokenPipeError:
            self._raise_server_gone(log)
        error: str | None = None
        out_of_memory = refused = False
        kills_before = oom_kills()
        for event in self._events():
            if event["event"] == "started":
                self._job_pid = event["pid"]
            elif event["event"] == "error":
                error = f"{event['kind']}: {event['message']}"
                out_of_memory = is_out_of_memory(event["kind"], event["message"])
                refused = event["kind"] == Refused.__name__
                if refused or event["kind"] in ("StageError", "UsageError"):
                    error = event["message"]
            elif event["event"] == "exit":
                if self._job_pid is not None and event["code"] != 0:
                    _kill_group(self._job_pid, os.killpg)  # what it started itself
                if job.model is not None and event["code"] == 0:
                    self._keeper = self._job_pid
                self._job_pid = None
                self.idle = True
                if event["code"] == 0:
                    return
                if event["signal"] == signal.SIGKILL:
                    out_of_memory = oom_kills() > kills_before
                raise WorkerFailed(error or _cause(event), self._tail(log), out_of_memory, refused)
            on_event(event)
        self._raise_server_gone(log)

    def _tail(self, log: BoundedLog) -> list[str]:
        """The last lines of a job's log, which is over."""
        self._pump.turn_to(self._log)
        return log.last_lines(_TAIL_LINES)

    def release(self) -> None:
        """Have the process that keeps a model end; returns once its memory is free."""
        if self._keeper is None:
            return
        self._keeper = None
        with contextlib.suppress(BrokenPipeError):
            self._send(None)
            next((event for event in self._events() if event["event"] == "released"), None)

    def stop(self) -> None:
        if self._job_pid is not None:
            _kill_group(self._job_pid)
            self._job_pid = None
        if self._process.stdin is not None:
            # What a server that is gone has not read is still in the buffer.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            _kill_group(self._process.pid)
            self._process.wait()
        if self._keeper is not None:
            _kill_group(self._keeper, os.killpg)  # what it started itself
            self._keeper = None
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._pump.close()
        with contextlib.suppress(OSError):
            if self._log.path.stat().st_size == 0:
                self._log.path.unlink()

    def _send(self, content: dict[str, Any] | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(content) + "\n").encode())
        self._process.stdin.flush()

    def _events(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)

    def _raise_server_gone(self, log: BoundedLog) -> None:
        code = self._process.wait()
        tail = self._tail(log) or last_lines(self._log.path, _TAIL_LINES)
        message = f"the worker's parent process ended with code {code}"
        if code < 0:
            message = f"the worker's parent process was {_describe_signal(-code)}"
        raise WorkerFailed(message, tail)


def oom_kills() -> int:
    """Processes that this machine's kernel has killed for memory since it started.

    A container that may not read its host's counter sees zero.
    """
    try:
        lines = Path("/proc/vmstat").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def is_out_of_memory(kind: str, message: str) -> bool:
    """Whether a Python error, by its type's name and text, says that memory ran out."""
    text = message.lower()
    return kind in ("MemoryError", "OutOfMemoryError") or (
        kind == "RuntimeError" and ("out of memory" in text or "can't allocate memory" in text)
    )


def _cause(event: Event) -> str:
    if event["signal"] is not None:
        return f"the worker was {_describe_signal(event['signal'])}"
    return f"the worker ended with code {event['code']}"


def _describe_signal(number: int) -> str:
    return _SIGNALS.get(signal.Signals(number), f"killed by {signal.Signals(number).name}")


def _kill_group(pid: int, *ways: Callable[[int, int], None]) -> None:
    for kill in ways or (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
