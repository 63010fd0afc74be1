"""What a row was measured on, and what its tokens cost there."""

from collections.abc import Iterable, Sequence

from runner.config.schema.hardware import Price
from runner.errors import UsageError
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.serving import STAGE as SERVING
from runner.planning.devices import read_device
from runner.planning.hardware.detect import recognised_among
from runner.reporting.rows import Row, timed_on
from runner.reporting.verdict.goals import dollars_per_million_tokens
from runner.store.records import BASELINE, RECIPE, RunRecord
from runner.util.serialise import from_json


class Origins:
    """The records that rows come from."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        """Look records up by run, and by what an unquantized model's row stands for."""
        self._by_run = {record.run: record for record in records}
        self._by_place = {
            (r.sweep, r.model, r.engine, timed_on(r)): r
            for r in reversed(records)
            if any(entry.subject == BASELINE for entry in r.stages)
        }

    def record(self, row: Row) -> RunRecord | None:
        """The one that a row was measured in, the first of several."""
        place = row.sweep or "", row.model, row.engine, row.machine
        return self._by_run.get(row.run or "") or self._by_place.get(place)

    def is_on(self, row: Row, device: str) -> bool:
        """Whether a row was measured on an option of ``hardware``."""
        record = self.record(row)
        if record is None:
            return False
        if record.config.get("hardware", {}).get("name") == device:
            return True
        try:
            limits = read_device(device)
        except UsageError:
            return False
        names: Iterable[str] = (gpu.get("name", "") for gpu in record.host.get("gpus") or ())
        return not limits.is_local and recognised_among(limits, names)

    def dollars(self, row: Row) -> float | None:
        """What a million generated tokens costs.

        Of a server, at the most users within its objective where that was searched for; else at the
        batch size where it is least. ``None`` where no speed was measured, or the device has no
        price.
        """
        record = self.record(row)
        if record is None:
            return None
        subject = BASELINE if row.is_baseline else RECIPE
        if _looks_for_capacity(record):
            return _served_for(record, subject)
        bench = record.result(BENCH, subject)
        try:
            price = from_json(Price, record.config.get("hardware", {}).get("price") or {})
        except ValueError:  # of another version
            return None
        speeds = [batch.decode_tokens_per_second.mean for batch in bench.batches] if bench else []
        if price.dollars_per_hour is None or not any(speeds):
            return None
        devices = max(1, len(record.host.get("gpus") or ()))
        return dollars_per_million_tokens(max(speeds), price.dollars_per_hour * devices)


def _looks_for_capacity(record: RunRecord) -> bool:
    """Whether a run searched for the most users within an objective: then nothing else will do."""
    asked = record.config.get("serving") or {}
    stages = record.config.get("stages") or ()
    return SERVING.name in stages and asked.get("max_concurrency") is not None


def _served_for(record: RunRecord, subject: str) -> float | None:
    served = record.result(SERVING, subject)
    if served is None or served.capacity is None:
        return None
    most = served.capacity.concurrency
    level = next((level for level in served.levels if level.concurrency == most), None)
    return None if level is None or most is None else served.dollars_per_million_tokens(level)
