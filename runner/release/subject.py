"""The checkpoint that is to be handed on, with what was measured of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner.data.models.files import licences
from runner.errors import StageError, UsageError
from runner.pipeline.stages.quantize import DIRECTORY, QuantizeResult
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.reporting.compare.find import find_side
from runner.reporting.row import Row
from runner.reporting.rows import rows_of
from runner.reporting.scores import Line, score_lines
from runner.store.objects import Address, ObjectStore
from runner.store.records import BASELINE, RunRecord


@dataclass(frozen=True)
class Subject:
    """A run's checkpoint and its figures."""

    record: RunRecord
    address: Address
    """Of the result in the store that holds the checkpoint."""
    directory: Path
    """The checkpoint's."""
    made: QuantizeResult
    rows: list[Row]
    """The unquantized model's where it was measured, and the recipe's, which is the last."""
    scores: list[Line]
    """On tasks, of these rows."""
    base: Path | None
    """Directory of the unquantized model, where it is on this machine."""

    @property
    def name(self) -> str:
        """``SWEEP/RUN``."""
        return f"{self.record.sweep}/{self.record.run}"

    @property
    def row(self) -> Row:
        """The recipe's."""
        return self.rows[-1]

    @property
    def unquantized(self) -> Row | None:
        """The unquantized model's row."""
        return next((row for row in self.rows if row.is_baseline), None)


def find_subject(
    store: ObjectStore, wanted: str, told: Callable[[int, int], None] = lambda done, total: None
) -> Subject:
    """The checkpoint of a run, every file of which is as it was written.

    Args:
        store: Where the run is recorded.
        wanted: ``SWEEP/RUN``, or a sweep of one run.
        told: Is told how many bytes of how many were compared with their digests.

    Raises:
        UsageError: There is no such run, there are several, or it made no checkpoint.
        StageError: The checkpoint was deleted or damaged.
    """
    found = find_side(store.runs, wanted).records
    if len(found) != 1:
        listed = ", ".join(f"{one.sweep}/{one.run}" for one in found[:5])
        more = ", …" if found[5:] else ""
        raise UsageError(f"{wanted} has {len(found)} runs, and one is handed on: {listed}{more}")
    (record,) = found
    name = f"{record.sweep}/{record.run}"
    entry = record.entry(QUANTIZE.name)
    made = record.result(QUANTIZE)
    if entry is None or made is None:
        raise UsageError(
            f"run {name} made no checkpoint ({_why(record)}); choose a run of a quantized recipe"
        )
    address = Address(QUANTIZE.name, entry.key)
    directory = store.directory(address) / DIRECTORY
    if not directory.is_dir():
        raise StageError(f"the checkpoint of {name} is not in the store any more: run it again")
    if problems := store.faults(address, told):
        raise StageError(
            f"the checkpoint of {name} is not as it was written ({problems[0]}): run it again, "
            "which makes it anew"
        )
    rows = [row for row in rows_of([record]) if not row.is_floor]
    return Subject(
        record, address, directory, made, rows, score_lines([record], rows), _base(store, record)
    )


def _why(record: RunRecord) -> str:
    stages = ", ".join(record.config.get("stages", []))
    return record.reason or f"its stages: {stages}; its method: {record.config['method']['name']}"


def _base(store: ObjectStore, record: RunRecord) -> Path | None:
    placement = record.placement
    if placement is None or BASELINE not in placement.checkpoints:
        return None
    place = store.root / placement.checkpoints[BASELINE]
    return place if place.is_dir() else None


def licence_files(subject: Subject) -> list[Path]:
    """Files beside the base model that say under which terms it is used."""
    return [] if subject.base is None else sorted(licences(subject.base))
