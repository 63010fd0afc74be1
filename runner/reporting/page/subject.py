"""The content of a page: records and rows of a sweep, each row with its groups."""

import math
from dataclasses import dataclass, field
from typing import Any

from runner.config.schema.bits import Bits
from runner.config.schema.group_size import GroupSize
from runner.config.schema.hardware import LOCAL
from runner.pipeline.experience.fitted_constants import PredictedCase
from runner.pipeline.stages.audit import STAGE as AUDIT
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.planning.local import machine_key
from runner.reporting.rows import Row, timed_on
from runner.reporting.timing import against_unquantized
from runner.reporting.verdict.verdict import Verdict
from runner.store.records import BASELINE, BASELINE_AGAIN, RunRecord
from runner.util.serialise import from_json

GROUPS = {
    "model": "Model",
    "method": "Method",
    "backend": "Backend",
    "bits": "Bits",
    "group_size": "Group size",
    "calibration": "Calibration",
    "text": "Evaluated on",
    "arithmetic": "Arithmetic",
    "engine": "Engine",
    "hardware": "Hardware",
    "sweep": "Sweep",
    "status": "Status",
}
"""Config groups that a reader filters by, and what they are called."""


@dataclass(frozen=True)
class Subject:
    """One sweep, or several, ready to be shown."""

    sweep: str
    """What it is called; several are listed."""
    records: list[RunRecord]
    rows: list[Row]
    comparisons: list[PredictedCase] = field(default_factory=list)
    """Predicted and measured decode times."""
    verdicts: list[Verdict] = field(default_factory=list)
    """What to take, of each model, text and machine."""
    audits: dict[str, list[str]] = field(default_factory=dict)
    """What is said of checkpoints that were audited, by their names."""

    def row_dicts(self) -> list[dict[str, Any]]:
        """Rows as JSON, with their groups, their speed at every batch size, and a number."""
        by_run = {record.run: record for record in self.records}
        baselines = {
            (r.sweep, r.model, r.engine, timed_on(r)): r
            for r in reversed(self.records)
            if any(entry.subject == "baseline" for entry in r.stages)
        }
        found = []
        for number, row in enumerate(self.rows):
            origin = (row.sweep or "", row.model, row.engine, row.machine)
            record = by_run.get(row.run or "") or baselines.get(origin)
            content: dict[str, Any] = row.content()
            content["id"] = number
            content["arithmetic"] = row.arithmetic or "not told"
            if record is not None:
                content |= groups_of(record, row.is_baseline)
                # A baseline stands for many runs, on one text of several.
                content["text"] = row.text or content["text"]
                runs = [by_run[run] for run in (row.runs or "").split() if run in by_run]
                kind = "baseline" if row.is_baseline else "recipe"
                content["batches"] = _mean([_batches(run, kind) for run in runs or [record]])
            found.append(content)
        return found


def groups_of(record: RunRecord, is_baseline: bool) -> dict[str, str]:
    """The values of a run's config groups, under the keys of ``GROUPS``.

    Raises nothing: a record of an older version may lack any of them.
    """
    config = record.config
    method = {"name": "none", "backend": "none"} if is_baseline else config.get("method", {})
    hardware = config.get("hardware", {}).get("name", LOCAL)
    audited = None if is_baseline else record.result(AUDIT)
    if audited is not None:
        main = audited.schemes[0]
        return {
            "method": audited.checkpoint_format,
            "backend": "not told",
            "bits": main.numbers,
            "group_size": main.scales or "none",
            "calibration": "not told",
            "text": str(config.get("eval", {}).get("text", {}).get("name")),
            "hardware": str(used_device(record) or LOCAL if hardware == LOCAL else hardware),
        }
    quantized = record.result(QUANTIZE)
    calibration = quantized is not None and quantized.calibration_tokens
    return {
        "method": str(method.get("name", "?")),
        "backend": str(method.get("backend", "?")),
        "bits": "unquantized" if is_baseline else _label(Bits, config.get("bits")),
        "group_size": "none" if is_baseline else _label(GroupSize, config.get("group_size")),
        "calibration": str(config.get("calibration", {}).get("name")) if calibration else "none",
        "text": str(config.get("eval", {}).get("text", {}).get("name")),
        "hardware": str(used_device(record) or LOCAL if hardware == LOCAL else hardware),
    }


def used_device(record: RunRecord) -> str | None:
    """What a run computed on: its GPUs, as in ``2 x NVIDIA H100 80GB HBM3``, or the CPU."""
    if record.host.get("gpus"):
        return machine_key(record.host, "cuda")
    return record.host.get("cpu_name")


def _label(kind: Any, content: Any) -> str:
    try:
        return str(from_json(kind, content).label)
    except (ValueError, TypeError):
        return "?"


def _mean(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One run's batches, or the means of several runs'."""
    found = []
    for batches in zip(*runs, strict=False):
        first = batches[0]
        if len(batches) > 1:
            speeds = [batch["speed"] for batch in batches]
            middle = sum(speeds) / len(speeds)
            squares = [batch["sd"] ** 2 + (batch["speed"] - middle) ** 2 for batch in batches]
            spread = math.sqrt(sum(squares) / len(speeds))
            first = {"batch": first["batch"], "speed": middle, "sd": spread}
        found.append(first)
    return found


def _batches(record: RunRecord, subject: str) -> list[dict[str, Any]]:
    """Decode tokens/s with their standard deviation at every batch size, and what they are told by.

    A recipe's have the ratio to the unquantized model's, its 95% interval (``None`` where nothing
    was repeated), and whether that holds 1.
    """
    bench = record.result(BENCH, subject)
    if bench is None:
        return []
    baseline, again = (record.result(BENCH, other) for other in (BASELINE, BASELINE_AGAIN))
    found = []
    for batch in bench.batches:
        content: dict[str, Any] = {
            "batch": batch.batch_size,
            "speed": batch.decode_tokens_per_second.mean,
            "sd": batch.decode_tokens_per_second.sd,
        }
        if subject == "recipe" and (
            told := against_unquantized(bench, baseline, again, batch.batch_size)
        ):
            ratio = told.comparison.ratio
            bounds = [ratio.low, ratio.high] if math.isfinite(ratio.high) else None
            content |= {
                "ratio": ratio.estimate,
                "interval": bounds,
                "within_noise": told.comparison.within_noise,
            }
        found.append(content)
    return found
