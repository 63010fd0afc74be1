"""One job in its own process: run a stage, write its result, report its outcome."""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from runner.engines.instruments.memory import process_memory_bytes, reset_peak_memory
from runner.errors import RunnerError
from runner.pipeline.stages import find_stage
from runner.pipeline.stages.base import StageContext
from runner.pipeline.worker.model_cache import ModelCache
from runner.pipeline.worker.protocol import Job
from runner.store.files import write_json_atomically
from runner.util.serialise import from_json, to_json

_PROGRESS_INTERVAL_SECONDS = 0.1


def run_job(job: Job, events: int, held: ModelCache) -> int:
    """Carry out a job in a process forked for it, or for jobs like it; returns its exit code.

    Args:
        job: What to do.
        events: File descriptor for event lines.
        held: What earlier jobs of this process left in memory.
    """
    os.chdir(job.directory)
    send(events, event="started", pid=os.getpid())
    try:
        _run(job, events, held)
        if job.model is None:
            held.close()
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        # A message for the user says what is wrong; where it was raised helps nobody.
        if not isinstance(error, RunnerError) or error.__cause__ is not None:
            traceback.print_exc()
        send(events, event="error", kind=type(error).__name__, message=str(error))
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _run(job: Job, events: int, held: ModelCache) -> None:
    reset_peak_memory()
    if held.imports_memory_bytes is None:
        held.imports_memory_bytes = process_memory_bytes().resident
    was_loaded = held.model is not None
    start, used_before = time.perf_counter(), _processor_seconds()
    stage = find_stage(job.stage)
    last = 0.0

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done in (0, total) or now - last > _PROGRESS_INTERVAL_SECONDS:
            last = now
            send(events, event="progress", done=done, total=total, what=what)

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(job.threads)
    context = StageContext(
        output=Path(job.output),
        partial=Path(job.partial),
        cache=Path(job.cache),
        threads=job.threads,
        progress=progress,
        loaded=held.loaded,
    )
    context.partial.mkdir(parents=True, exist_ok=True)
    result = stage.run(from_json(stage.request, job.request), context)
    memory = process_memory_bytes()
    write_json_atomically(
        Path(job.output) / job.result_file,
        {
            "stage": job.stage,
            "schema_version": stage.schema_version,
            "result": to_json(result),
            "resources": {
                "seconds": time.perf_counter() - start,
                "processor_seconds": _processor_seconds() - used_before,
                "imports_memory_bytes": held.imports_memory_bytes,
                # A stage that measures memory itself starts peaks anew and tells the highest.
                "peak_memory_bytes": max(memory.peak, getattr(result, "peak_memory_bytes", 0)),
                "threads": job.threads,
                "model_was_loaded": was_loaded,
            },
        },
    )


def _processor_seconds() -> float:
    """Of this process, and of those that it started and waited for."""
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def send(events: int, **content: Any) -> None:
    """Write one event line; short enough to be atomic on a pipe."""
    if "message" in content:
        content["message"] = content["message"][:2000]
    os.write(events, (json.dumps(content) + "\n").encode())
