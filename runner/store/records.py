"""What became of each run: one JSON file a run, written when it starts and when it ends."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from runner.config.renamed import present_config, present_overrides
from runner.errors import StageError
from runner.store.files import is_altered, write_checked_json
from runner.store.liveness import is_carried_out
from runner.store.shared import Shared, without_collection
from runner.util.progress import progress
from runner.util.redact import redact
from runner.util.serialise import from_json, to_json

SCHEMA_VERSION = 2
BASELINE_AGAIN = "baseline_again"
"""The unquantized model measured once more, after a recipe that it could not take turns with."""
OPEN = "still running, or its process vanished"
"""Why a run is interrupted, in its record from its start to its end."""


class Status(Enum):
    """How a run ended."""

    ok = "ok"
    skipped = "skipped"
    """The combination is illegal; ``reason`` says why."""
    failed = "failed"
    oom = "oom"
    """It asked for more memory than there is."""
    timeout = "timeout"
    """Its time on the cluster was over."""
    cancelled = "cancelled"
    """Taken from the cluster's queue, or not begun because others failed."""
    interrupted = "interrupted"
    """Stopped by the user, or waiting, or its process vanished."""
    running = "running"
    """A process is at it. No record says so: it is told as long as the process lives."""

    @property
    def without_fault(self) -> bool:
        """Whether nothing went wrong: a sweep of such runs ends with exit code 0."""
        return self in (Status.ok, Status.skipped)


@dataclass
class StageRecord:
    """One stage of a run: which result it got and how."""

    stage: str
    subject: str
    """``recipe``, ``baseline`` or ``baseline_again``: which checkpoint the stage looked at."""
    key: str
    reused: bool
    seconds: float
    environment: str
    """Where it ran."""
    versions: dict[str, str]
    """Of the packages that determine its result."""
    result: dict[str, Any]


@dataclass
class RunRecord:
    """Everything worth knowing about one run; reports are made from these alone."""

    sweep: str
    run: str
    label: str
    model: str
    engine: str
    status: Status
    reason: str | None
    started: str
    """UTC, ISO 8601."""
    seconds: float | None
    overrides: list[str]
    config: dict[str, Any]
    """The resolved configuration, secrets masked."""
    unquantized_bits: float | None = None
    """Bits per weight of the model before quantization."""
    model_fingerprint: str | None = None
    """Of the model before quantization, whatever it is called and wherever it lies; ``None`` in
    older records and where nothing looked at it."""
    text_sha256: str | None = None
    """Digest of the evaluated text's documents; ``None`` where none was evaluated."""
    warnings: list[str] = field(default_factory=list)
    stages: list[StageRecord] = field(default_factory=list)
    log_tail: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """Of the control process; what a stage ran with is told with the stage."""
    host: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def is_open(self) -> bool:
        """Whether it was begun and nobody has said how it ended."""
        return self.status is Status.interrupted and self.reason == OPEN

    @property
    def number(self) -> int:
        """Place of the run in its sweep."""
        return int(self.run.partition("-")[0])

    def stage(self, name: str, subject: str = "recipe") -> dict[str, Any] | None:
        """Result of a stage of this run, or ``None`` when it has none."""
        for entry in self.stages:
            if entry.stage == name and entry.subject == subject:
                return entry.result
        return None


def write_record(runs: Path, record: RunRecord) -> Path:
    """File a record; returns the path of its JSON file."""
    path = runs / record.sweep / record.run / "record.json"
    _write(path, record)
    return path


def _write(path: Path, record: RunRecord) -> None:
    write_checked_json(path, redact(to_json(record)))


def read_record(path: Path, shared: Shared | None = None) -> RunRecord | None:
    """The record in a JSON file, or ``None`` where there is none.

    Args:
        path: The file.
        shared: Parts of other records, which this one is to share where they are equal.

    Raises:
        StageError: The file holds no record of this version.
    """
    # Twice as fast as Python's own, and a report reads thousands.
    from pydantic_core import from_json as parsed

    try:
        written = path.read_bytes()
        if is_altered(written):
            raise StageError(f"{path} was altered after it was written; delete it or move it away")
        content = parsed(written)
        if isinstance(content, dict) and isinstance(content.get("config"), dict):
            present_config(content["config"])
        record = from_json(RunRecord, content if shared is None else shared.record(content))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StageError(
            f"{path} is no record that this version can read; delete it or move it away"
        ) from error
    record.overrides = present_overrides(record.overrides, warn=False)
    if record.is_open and (alive := is_carried_out(path)) is not None:
        record.status = Status.running if alive else Status.interrupted
        record.reason = "a process is at it" if alive else "its process vanished"
    return record


def close_record(path: Path, status: Status, reason: str) -> None:
    """Say how a run ended whose own process did not: only if its record is still open."""
    record = read_record(path)
    if record is not None and record.status in (Status.interrupted, Status.running):
        record.status, record.reason = status, reason
        _write(path, record)


def read_records(runs: Path, sweep: str, shared: Shared | None = None) -> list[RunRecord]:
    """All records of a sweep, in the order of their runs.

    Args:
        runs: The store's folder of records.
        sweep: Its id.
        shared: Parts of other sweeps' records; equal parts of records become one object.
    """
    paths, shared = sorted((runs / sweep).glob("*/record.json")), shared or Shared()
    found = []
    with without_collection(), progress(f"reading records of {sweep}", len(paths)) as seen:
        for path in paths:
            if (record := read_record(path, shared)) is not None:
                found.append(record)
            seen()
    return found


def latest_sweep(runs: Path) -> str | None:
    """Id of the sweep whose newest record was written last, or ``None``."""
    newest = max(
        runs.glob("*/*/record.json"), key=lambda path: path.stat().st_mtime_ns, default=None
    )
    return newest.parent.parent.name if newest else None
