"""Records of runs: one JSON file each, written at the start and at the end."""

import functools
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from runner.config.renamed import present_config, present_overrides
from runner.errors import StageError
from runner.store.files import is_altered, write_checked_json
from runner.store.liveness import is_carried_out
from runner.store.placement import Placement
from runner.store.shared import Shared, without_collection
from runner.util.progress import progress
from runner.util.redact import redact
from runner.util.serialise import from_json, to_json

ResultT = TypeVar("ResultT")
Result_co = TypeVar("Result_co", covariant=True)
SCHEMA_VERSION = 2
RECIPE = "recipe"
"""Whose results are those of the checkpoint that a run makes, or of a model that came quantized."""
BASELINE = "baseline"
"""The unquantized model's."""
BASELINE_AGAIN = "baseline_again"
"""The unquantized model measured once more, after a recipe that it could not take turns with."""
OPEN = "still running, or its process died"
"""What a run's record says of it from its start to its end."""


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
    """A process is at it, or it died: who reads the record looks whether the process lives."""

    @property
    def without_fault(self) -> bool:
        """Whether nothing went wrong: a sweep of such runs ends with exit code 0."""
        return self in (Status.ok, Status.skipped)


@dataclass
class Resources:
    """What a stage took; ``None`` where nobody knows."""

    seconds: float | None = None
    processor_seconds: float | None = None
    """Of its process and what that started; of all threads."""
    inspection_processor_seconds: float | None = None
    """The same of what looked at the result before it counted."""
    imports_memory_bytes: float | None = None
    peak_memory_bytes: float | None = None
    threads: int | None = None
    model_was_loaded: bool | None = None


class Kind(Protocol[Result_co]):
    """What knows a stage's results: its declaration, a ``pipeline.stages.base.Stage``.

    The store lies below the stages, and needs this much of them.
    """

    @property
    def name(self) -> str:
        """Name under which its results are filed."""

    def read(self, content: dict[str, Any], version: int | None = None) -> Result_co:
        """The result that JSON holds.

        Raises:
            StageError: It is of another version, or none.
        """


@dataclass
class StageRecord:
    """One stage of a run: which result it got and how."""

    stage: str
    subject: str
    """``recipe``, ``baseline`` or ``baseline_again``: which checkpoint the stage looked at; of a
    noise floor what was varied, ``baseline`` for the type of the arithmetic."""
    key: str
    reused: bool
    seconds: float
    environment: str
    """Where it ran."""
    versions: dict[str, str]
    """Of the packages that determine its result."""
    result: dict[str, Any]
    """JSON form of what the stage returned, and its ``resources``; read it with ``read``."""
    schema_version: int | None = None
    """Of ``result``; ``None`` in records of versions before 0.2."""

    def __post_init__(self) -> None:
        """Nothing has been read of it yet."""
        self._read: Any = None

    def read(self, kind: Kind[ResultT]) -> ResultT:
        """The result that the stage returned.

        Args:
            kind: The stage's declaration.

        Raises:
            StageError: It was written by a version whose results cannot be read.
        """
        if self._read is None:
            self._read = kind.read(self.result, self.schema_version)
        found: ResultT = self._read
        return found

    @property
    def resources(self) -> Resources:
        """What it took."""
        return from_json(Resources, self.result.get("resources") or {})


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
    placement: Placement | None = None
    """``None`` in older records, and where the run ended before there was a checkpoint."""
    schema_version: int = SCHEMA_VERSION
    root: Path | None = field(default=None, repr=False, compare=False)
    """Of the store that it was read from or written to. In no file: a store may be moved."""

    @property
    def is_open(self) -> bool:
        """Whether it was begun and nobody has said how it ended."""
        # Older versions wrote that it was interrupted until it had ended.
        return self.status in (Status.running, Status.interrupted) and self.reason == OPEN

    @property
    def number(self) -> int:
        """Place of the run in its sweep."""
        return int(self.run.partition("-")[0])

    def entry(self, name: str, subject: str = RECIPE) -> StageRecord | None:
        """A stage of this run, or ``None`` when it did not go through it."""
        for entry in self.stages:
            if entry.stage == name and entry.subject == subject:
                return entry
        return None

    def result(self, kind: Kind[ResultT], subject: str = RECIPE) -> ResultT | None:
        """What a stage of this run returned, or ``None`` when it did not go through it.

        A result of a version that cannot be read is warned of, and counts as none.

        Args:
            kind: The stage's declaration.
            subject: Whose result: the recipe's, or the unquantized model's.
        """
        entry = self.entry(kind.name, subject)
        return None if entry is None else self.read(entry, kind)

    def read(self, entry: StageRecord, kind: Kind[ResultT]) -> ResultT | None:
        """As ``result``, of one of ``stages``."""
        try:
            return entry.read(kind)
        except StageError as error:
            if str(error) not in self.warnings:
                self.warnings = [*self.warnings, str(error)]  # others may share the list
            _warn(str(error))
            return None


@functools.cache
def _warn(text: str) -> None:
    print(f"runner: warning: {text}", file=sys.stderr)


def write_record(runs: Path, record: RunRecord) -> Path:
    """File a record; returns the path of its JSON file."""
    path = runs / record.sweep / record.run / "record.json"
    _write(path, record)
    record.root = runs.parent
    return path


def _write(path: Path, record: RunRecord) -> None:
    content = to_json(record)
    del content["root"]
    write_checked_json(path, redact(content))


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
            raise StageError(f"{path} was changed after it was written; delete it or move it away")
        content = parsed(written)
        if isinstance(content, dict) and isinstance(content.get("config"), dict):
            present_config(content["config"])
        record = from_json(RunRecord, content if shared is None else shared.record(content))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StageError(
            f"{path} is not a record that this version can read; delete it or move it away"
        ) from error
    record.root = path.parents[3]
    record.overrides = present_overrides(record.overrides, warn=False)
    if record.is_open and (alive := is_carried_out(path)) is not None:
        record.status = Status.running if alive else Status.interrupted
        record.reason = "still running" if alive else "interrupted: the process died"
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
    records = []
    with without_collection(), progress(f"reading records of {sweep}", len(paths)) as seen:
        for path in paths:
            if (record := read_record(path, shared)) is not None:
                records.append(record)
            seen()
    return records


def latest_sweep(runs: Path) -> str | None:
    """Id of the sweep whose newest record was written last, or ``None``."""
    newest = max(
        runs.glob("*/*/record.json"), key=lambda path: path.stat().st_mtime_ns, default=None
    )
    return newest.parent.parent.name if newest else None
