"""The program of the process that logs: events come in on standard input, one JSON object a line.

``TrackingService`` starts it. What a tracker says goes back on standard output.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from runner.config.schema.tracker import Tracker
from runner.pipeline.observers import RunTracker
from runner.reporting.tracking import (
    find_tracker,
    promote_checkpoint,
    start_tracker,
    summarise_sweep,
)
from runner.reporting.tracking.base import SweepEnd, told_reason
from runner.store.records import RunRecord, StageRecord, Status
from runner.util.redact import redact
from runner.util.serialise import from_json

_KILLED = "the command that carried it out was killed"


class _Log:
    """What trackers have to say; the control process shows it."""

    def __init__(self, stream: IO[str]) -> None:
        """Write to ``stream``."""
        self._stream = stream

    def line(self, text: str, style: str | None = None) -> None:
        """Pass on one line."""
        print(json.dumps({"text": redact(text), "style": style}), file=self._stream, flush=True)


class _Service:
    def __init__(self, log: _Log) -> None:
        self._log = log
        self._runs: dict[int, tuple[RunTracker, RunRecord]] = {}

    def carry_out(self, event: dict[str, Any]) -> None:
        """Do what one event asks for."""
        config = from_json(Tracker, event["config"])
        do = event["do"]
        if do == "prepare":
            prepare = find_tracker(config.name).prepare
            if prepare is not None:
                prepare(config)
        elif do == "start":
            record = from_json(RunRecord, event["record"])
            self._runs[event["run"]] = start_tracker(config, record, self._log), record
        elif do == "stage":
            self._runs[event["run"]][0].log_stage(from_json(StageRecord, event["stage"]))
        elif do == "progress":
            self._runs[event["run"]][0].log_progress(*event["progress"])
        elif do == "finish":
            tracker, _ = self._runs.pop(event["run"])
            tracker.finish(from_json(RunRecord, event["record"]))
        elif do == "promote":
            promote_checkpoint(config, from_json(RunRecord, event["record"]), self._log)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                end = SweepEnd.filed(Path(event["runs"]), event["sweep"], Path(scratch))
                summarise_sweep(config, end, self._log)

    def close(self) -> None:
        """Close what is left open: nobody said how these runs ended."""
        for tracker, record in self._runs.values():
            record.status, record.reason = Status.interrupted, _KILLED
            tracker.finish(record)


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not be taken for ours.
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    log = _Log(own)
    service, is_well = _Service(log), True
    for line in sys.stdin:
        try:
            if is_well:
                service.carry_out(json.loads(line))
        except Exception as error:
            is_well = False
            why = f"{told_reason(error)}); results are still in the store"
            log.line(f"  warning: tracking stopped ({why}", "yellow")
    service.close()


if __name__ == "__main__":
    main()
