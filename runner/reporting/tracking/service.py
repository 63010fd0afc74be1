"""The process that logs: a tracker's library costs the runs that it follows next to nothing."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from runner.config.schema.tracker import Tracker
from runner.pipeline.observers import RunTracker
from runner.reporting.display import Display
from runner.reporting.tracking import find_tracker
from runner.reporting.tracking.base import FOLLOWED_PROCESS, require_library
from runner.store.records import RunRecord, StageRecord
from runner.util.redact import redact
from runner.util.serialise import to_json
from runner.util.surroundings import for_children

_MODULE = "runner.reporting.tracking.serve"
_PATIENCE_SECONDS = 3.0
"""After the answer, before a person is told what is waited for."""


class TrackingService:
    """Logs the runs of one command in a process of its own, started beside the work.

    What is to be logged is queued and never waited for. The process gets nothing unmasked, and ends
    once its input does: runs of a command that was killed are closed as failed.
    """

    def __init__(self, display: Display) -> None:
        """Start nothing yet."""
        self.display = display
        """Told warnings."""
        self._process: subprocess.Popen[str] | None = None
        self._queue: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._runs = 0
        self._heard_end = threading.Event()

    def prepare(self, config: Tracker) -> None:
        """Start the process and have it import what the tracker needs, if it logs anything.

        Raises:
            UsageError: There is no such tracker, its library is missing, or it is a plug-in that
                cannot be loaded.
        """
        if (library := find_tracker(config.name).library) is not None:
            require_library(*library)
        if self._logs(config) and self._process is None:
            self._tell(config, do="prepare")

    def follow(self, config: Tracker, record: RunRecord) -> RunTracker:
        """Begin to follow a run.

        Raises:
            UsageError: There is no such tracker, or it is a plug-in that cannot be loaded.
        """
        if not self._logs(config):
            return _Untracked()
        self._runs += 1
        number = self._runs
        self._tell(config, do="start", run=number, record=_masked(record))

        def tell(**event: Any) -> None:
            self._tell(config, run=number, **event)

        return _Followed(tell)

    def summarise(self, config: Tracker, runs: Path, sweep: str) -> None:
        """Log a summary of a finished sweep, whose records and answer are filed below ``runs``.

        Raises:
            UsageError: There is no such tracker, or it is a plug-in that cannot be loaded.
        """
        if find_tracker(config.name).summarise is not None:
            self._tell(config, do="summarise", runs=str(runs), sweep=sweep)

    def promote(self, config: Tracker, record: RunRecord) -> None:
        """Tell of a run's checkpoint that it passed the gate.

        Raises:
            UsageError: There is no such tracker, or it is a plug-in that cannot be loaded.
        """
        if find_tracker(config.name).promote is not None:
            self._tell(config, do="promote", record=_masked(record))

    def close(self) -> None:
        """Wait until everything is logged. Ctrl-C leaves the process to finish by itself."""
        process, self._process = self._process, None
        if process is None:
            return
        self._queue.put(None)
        try:
            if not self._heard_end.wait(_PATIENCE_SECONDS):
                self.display.line(
                    "waiting for the tracker to finish its log (Ctrl-C: it finishes by itself)",
                    style="dim",
                )
            code = process.wait()
            for thread in self._threads:
                thread.join()
        except KeyboardInterrupt:
            return
        finally:
            self._threads, self._heard_end = [], threading.Event()
        if code:
            self.display.line(
                f"  warning: tracking stopped (its process ended with {_described(code)}); results "
                "are still in the store",
                style="yellow",
            )

    def _logs(self, config: Tracker) -> bool:
        return find_tracker(config.name).start is not None

    def _tell(self, config: Tracker, **event: Any) -> None:
        if self._process is None:
            self._start()
        # It is reached by them, credentials and all, and tells them to nobody.
        needed = {"directory": config.directory, "uri": config.uri}
        self._queue.put({"config": redact(to_json(config)) | needed, **event})

    def _start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What libraries print there of their own accord is nobody's to read.
            stderr=subprocess.DEVNULL,
            env={**os.environ, **for_children(), FOLLOWED_PROCESS: str(os.getpid())},
            encoding="utf-8",
            # Ctrl-C reaches the control process alone, which says how its runs ended.
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        self._process, self._queue = process, SimpleQueue()
        loops = ((_write, (process.stdin, self._queue)), (self._read, (process.stdout,)))
        self._threads = [
            threading.Thread(target=loop, args=arguments, daemon=True) for loop, arguments in loops
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, lines: Any) -> None:
        with lines:
            for line in lines:
                said = json.loads(line)
                self.display.line(said["text"], style=said["style"])
        self._heard_end.set()


class _Followed:
    """A run that the process follows."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def log_stage(self, stage: StageRecord) -> None:
        """Queue a stage's result."""
        self._tell(do="stage", stage=_masked(stage))

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """Queue how far a stage is."""
        self._tell(do="progress", progress=[redact(title), done, total, redact(what)])

    def finish(self, record: RunRecord) -> None:
        """Queue how the run ended."""
        self._tell(do="finish", record=_masked(record))


class _Untracked:
    """A run that nobody follows."""

    def log_stage(self, stage: StageRecord) -> None:
        """Nothing."""

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """Nothing."""

    def finish(self, record: RunRecord) -> None:
        """Nothing."""


def _write(stream: Any, queue: "SimpleQueue[dict[str, Any] | None]") -> None:
    # A process that is gone takes nothing, which its exit code tells.
    with contextlib.suppress(BrokenPipeError), stream:
        while (event := queue.get()) is not None:
            stream.write(json.dumps(event) + "\n")
            stream.flush()


def _masked(value: RunRecord | StageRecord) -> Any:
    return redact(to_json(value))


def _described(code: int) -> str:
    return f"code {code}" if code > 0 else f"signal {-code}"
