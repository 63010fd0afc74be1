"""Rows of the answer, read from run records."""

import math
from typing import Any

from runner.config.schema.floor import Variation
from runner.data.models.coverage import describe_shortfall
from runner.evaluation.metrics.expert_tokens import describe_starved
from runner.pipeline.stages.audit import STAGE as AUDIT
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.bench import BenchResult
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.pipeline.stages.jobs.overlap import STAGE as OVERLAP
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.pipeline.stages.quantize import QuantizeResult
from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.planning.local import machine_key
from runner.planning.runtime_format import is_made_dense, makes_dense
from runner.reporting.draws import by_recipe, together
from runner.reporting.floor_rows import add_floor, floor_rows
from runner.reporting.further import further_metrics
from runner.reporting.quality.answered import answered
from runner.reporting.quality.evaluated import first_evaluation
from runner.reporting.quality.floors import STAGES as FLOOR_STAGES
from runner.reporting.quality.floors import floor_of
from runner.reporting.row import Row
from runner.reporting.row_quality import add_answers, add_evaluation
from runner.reporting.served import add_checkpoint
from runner.reporting.timing import against_unquantized
from runner.store.records import BASELINE, BASELINE_AGAIN, RECIPE, RunRecord, Status

__all__ = ["Row", "evaluated_on", "rows_of"]


def rows_of(records: list[RunRecord]) -> list[Row]:
    """One row a recipe, preceded by one for each unquantized model they were compared with.

    That is one a run, but for runs that are draws of one recipe: see ``runner.reporting.draws``.
    """
    rows: list[Row] = []
    seen: dict[tuple[str, str, str], list[Row]] = {}
    varied: dict[tuple[str, str, str], set[Variation | None]] = {}
    for draws in by_recipe(records):
        for record in draws.records:
            baseline = _baseline_row(record)
            if baseline is None:
                continue
            measured = f"{baseline.text} {baseline.arithmetic} {baseline.perplexity}"
            identity = (record.model, record.engine, measured)
            same = seen.setdefault(identity, [])
            # Its speed on one machine says nothing of it on another.
            known = next((r for r in same if None in (r.machine, baseline.machine)
                          or r.machine == baseline.machine), None)  # fmt: skip
            if known is not None:
                _fill(known, baseline)
            else:
                rows.append(baseline)
                same.append(baseline)
            shown = varied.setdefault(identity, set())
            floors = [row for row in floor_rows(record) if row.variation not in shown]
            shown |= {row.variation for row in floors}
            rows += floors
        own = [_recipe_row(record) for record in draws.records if not _stands_for_itself(record)]
        rows += [together(own, draws)] if len(own) > 1 else own
    return rows


def timed_on(record: RunRecord) -> str | None:
    """What a run's speeds were measured on; ``None`` where it measured none, or does not say."""
    bench = record.result(BENCH, RECIPE) or record.result(BENCH, BASELINE)
    if bench is None or not record.host.get("cpu_name"):
        return None
    return machine_key(record.host, bench.device)


def evaluated_on(rows: list[Row]) -> str | None:
    """What to say of the text where all rows have one; where they differ it is a column."""
    texts = {row.text for row in rows if row.text is not None and row.perplexity is not None}
    return f"Evaluation text: {texts.pop()}." if len(texts) == 1 else None


def _stands_for_itself(record: RunRecord) -> bool:
    """Whether a run is the unquantized model's own, whose row it has."""
    return record.status is Status.ok and _is_baseline_run(record)


def _is_baseline_run(record: RunRecord) -> bool:
    return all(e.subject == BASELINE or e.stage in FLOOR_STAGES for e in record.stages)


def _baseline_row(record: RunRecord) -> Row | None:
    if not any(entry.subject == BASELINE for entry in record.stages):
        return None
    row = Row("unquantized", record.model, record.engine, Status.ok.value, None, None)
    row.is_baseline = True
    row.bits_per_weight = record.unquantized_bits
    if _is_baseline_run(record):
        row.run = record.run
    _add_numbers(row, record, BASELINE)
    return row


def _recipe_row(record: RunRecord) -> Row:
    row = Row(
        record.label, record.model, record.engine, record.status.value, record.reason, record.run
    )
    _add_numbers(row, record, RECIPE)
    return row


def _fill(row: Row, other: Row) -> None:
    for name, value in vars(other).items():
        if getattr(row, name) is None:
            setattr(row, name, value)


def _add_numbers(row: Row, record: RunRecord, subject: str) -> None:
    row.sweep = record.sweep
    if (audited := record.result(AUDIT, subject)) is not None:
        row.bits_per_weight = audited.bits_per_weight
        row.bits_per_parameter = audited.bits_per_parameter
        row.quantized_share = audited.coverage.quantized_share
        row.caveat = "; ".join(audited.contradictions) or None
        row.checkpoint_bytes = audited.checkpoint_bytes
    if (made := record.result(QUANTIZE, subject)) is not None:
        row.bits_per_weight = made.bits_per_weight
        row.bits_per_parameter = made.bits_per_parameter
        row.seeds = 1 if made.calibration_tokens else None
        row.quantized_share = made.coverage.quantized_share
        row.caveat = _caveat(made, record.config.get("calibration") or {})
        row.checkpoint_bytes = made.checkpoint_bytes
    if (evaluation := record.result(EVAL, subject)) is not None:
        row.text = record.config.get("eval", {}).get("text", {}).get("name")
        row.evaluated = first_evaluation(record, subject)
        add_evaluation(row, evaluation)
    if (tasks := record.result(TASKS, subject)) is not None and tasks.overall is not None:
        add_answers(row, tasks, answered(record, subject), answered(record, BASELINE))
    add_floor(row, floor_of(record, row.arithmetic))
    if (found := record.result(OVERLAP, subject)) is not None:
        row.calibration_overlap = found.overlaps[0].share
    if (bench := record.result(BENCH, subject)) is not None:
        own = subject == BASELINE
        against = [None if own else record.result(BENCH, s) for s in (BASELINE, BASELINE_AGAIN)]
        _add_speed(row, bench, *against)
        row.machine = timed_on(record)
        row.decode_of_dense = bench.device != "cpu" and _is_made_dense(record, subject)
        row.checkpoint_bytes = bench.checkpoint_bytes
    if row.checkpoint_bytes is None and record.placement is not None:
        row.checkpoint_bytes = record.placement.weight_bytes.get(subject)
    add_checkpoint(row, record, subject)
    row.further = further_metrics(record, subject)


def _is_made_dense(record: RunRecord, subject: str) -> bool:
    if subject == RECIPE and (audited := record.result(AUDIT)) is not None:
        # Of all that such an engine reads it leaves this alone packed.
        return makes_dense(record.engine, audited.checkpoint_format)
    quantized = subject == RECIPE and record.entry(QUANTIZE.name, RECIPE) is not None
    return quantized and is_made_dense(record.engine, record.config)


def _caveat(made: QuantizeResult, calibration: dict[str, Any]) -> str | None:
    """What of the checkpoint is less than the recipe promises."""
    caveats = [describe_shortfall(made.coverage)]
    if made.expert_tokens:
        least = calibration.get("min_tokens_per_expert", 0)
        caveats.append(describe_starved(made.expert_tokens, least))
    return "; ".join(caveat for caveat in caveats if caveat) or None


def _add_speed(
    row: Row, bench: BenchResult, baseline: BenchResult | None, again: BenchResult | None
) -> None:
    first = bench.batches[0]
    row.batch_size = first.batch_size
    row.decode_tokens_per_second = first.decode_tokens_per_second.mean
    row.decode_tokens_per_second_sd = first.decode_tokens_per_second.sd
    row.time_to_first_token_seconds = first.time_to_first_token_seconds.mean
    row.memory_bandwidth_utilization = first.memory_bandwidth_utilization
    row.peak_memory_bytes = bench.memory_bytes
    row.held_memory_bytes = bench.held_memory_bytes
    if row.is_baseline:
        row.decode_ratio = 1.0
    elif told := against_unquantized(bench, baseline, again, first.batch_size):
        ratio = told.comparison.ratio
        row.decode_ratio = ratio.estimate
        if math.isfinite(ratio.high):
            row.decode_ratio_low, row.decode_ratio_high = ratio.low, ratio.high
        row.decode_within_noise = told.comparison.within_noise
        row.decode_compared = told.how.value
    elif baseline is not None:
        base = baseline.batches[0].decode_tokens_per_second.mean
        row.decode_ratio = row.decode_tokens_per_second / base if base else None
