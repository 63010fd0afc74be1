"""Rows of the answer, read from run records."""

import math
from typing import Any

from runner.data.models.coverage import Coverage, describe_shortfall
from runner.data.texts.sample import Sample
from runner.evaluation.metrics.divergence import Divergence
from runner.evaluation.metrics.expert_tokens import describe_starved
from runner.evaluation.quality.answered import accuracy_difference, answered
from runner.evaluation.quality.evaluated import first_evaluation
from runner.reporting.draws import by_recipe, together
from runner.reporting.row import Row
from runner.reporting.timing import against_unquantized
from runner.store.records import BASELINE_AGAIN, RunRecord, Status
from runner.util.serialise import from_json

__all__ = ["Row", "evaluated_on", "rows_of"]


def rows_of(records: list[RunRecord]) -> list[Row]:
    """One row a recipe, preceded by one for each unquantized model they were compared with.

    That is one a run, but for runs that are draws of one recipe: see ``runner.reporting.draws``.
    """
    rows: list[Row] = []
    seen: dict[tuple[str, str, str], Row] = {}
    for draws in by_recipe(records):
        for record in draws.records:
            baseline = _baseline_row(record)
            if baseline is None:
                continue
            measured = f"{baseline.text} {baseline.arithmetic} {baseline.perplexity}"
            identity = (record.model, record.engine, measured)
            if identity in seen:
                _fill(seen[identity], baseline)
            else:
                seen[identity] = baseline
                rows += [baseline, *_floor_rows(record)]
        own = [_recipe_row(record) for record in draws.records if not _stands_for_itself(record)]
        rows += [together(own, draws)] if len(own) > 1 else own
    return rows


def evaluated_on(rows: list[Row]) -> str | None:
    """What to say of the text where all rows have one; where they differ it is a column."""
    texts = {row.text for row in rows if row.text is not None and row.perplexity is not None}
    return f"Evaluation text: {texts.pop()}." if len(texts) == 1 else None


def _stands_for_itself(record: RunRecord) -> bool:
    """Whether a run is the unquantized model's own, whose row it has."""
    return record.status is Status.ok and _is_baseline_run(record)


def _is_baseline_run(record: RunRecord) -> bool:
    return all(entry.subject == "baseline" for entry in record.stages)


def _baseline_row(record: RunRecord) -> Row | None:
    if not any(entry.subject == "baseline" for entry in record.stages):
        return None
    row = Row("unquantized", record.model, record.engine, Status.ok.value, None, None)
    row.is_baseline = True
    row.bits_per_weight = record.unquantized_bits
    if _is_baseline_run(record):
        row.run = record.run
    _add_numbers(row, record, "baseline")
    return row


def _floor_rows(record: RunRecord) -> list[Row]:
    floor = record.stage("floor", "baseline")
    if floor is None:
        return []
    name = f"{floor['arithmetic']} against float32"
    row = Row(name, record.model, record.engine, Status.ok.value, None, None, record.sweep)
    row.is_floor = True
    row.text = record.config.get("eval", {}).get("text", {}).get("name")
    _add_quality(row, floor)
    return [row]


def _recipe_row(record: RunRecord) -> Row:
    row = Row(
        record.label, record.model, record.engine, record.status.value, record.reason, record.run
    )
    _add_numbers(row, record, "recipe")
    return row


def _fill(row: Row, other: Row) -> None:
    for name, value in vars(other).items():
        if getattr(row, name) is None:
            setattr(row, name, value)


def _add_numbers(row: Row, record: RunRecord, subject: str) -> None:
    row.sweep = record.sweep
    quantize, eval_, tasks, bench = (
        record.stage(s, subject) for s in ("quantize", "eval", "tasks", "bench")
    )
    if quantize is not None:
        row.bits_per_weight = quantize["bits_per_weight"]
        row.bits_per_parameter = quantize.get("bits_per_parameter")
        row.seeds = 1 if quantize.get("calibration_tokens") else None
        _add_coverage(row, quantize, record.config.get("calibration") or {})
        row.checkpoint_bytes = quantize["checkpoint_bytes"]
    if eval_ is not None:
        row.text = record.config.get("eval", {}).get("text", {}).get("name")
        row.evaluated = first_evaluation(record, subject)
        _add_quality(row, eval_)
        _add_floor(row, record.stage("floor", "baseline"))
    if tasks is not None and tasks["overall"] is not None:
        _add_answers(row, record, subject)
        row.tasks = tasks["overall"]["tasks"]
        row.task_accuracy = tasks["overall"]["mean"]
        row.task_recovery_percent = tasks["overall"]["recovery_percent"]
    if (overlap := record.stage("overlap", subject)) is not None:
        row.calibration_overlap = overlap["overlaps"][0]["share"]
    if bench is not None:
        own = subject == "baseline"
        against = [None if own else record.stage("bench", s) for s in ("baseline", BASELINE_AGAIN)]
        _add_speed(row, bench, *against)
        row.checkpoint_bytes = bench["checkpoint_bytes"]


def _add_answers(row: Row, record: RunRecord, subject: str) -> None:
    row.answered, base = answered(record, subject), answered(record, "baseline")
    if row.answered is None or base is None:
        return
    row.task_accuracy_baseline = base.value
    found = None if row.is_baseline else accuracy_difference(row.answered, base)
    if found is not None:
        row.task_accuracy_delta = found.interval.estimate
        row.task_accuracy_delta_low = found.interval.low
        row.task_accuracy_delta_high = found.interval.high


def _add_coverage(row: Row, quantize: dict[str, Any], calibration: dict[str, Any]) -> None:
    """What was written; a checkpoint of an older version tells nothing of it."""
    caveats = []
    if (content := quantize.get("coverage")) is not None:
        coverage = from_json(Coverage, content)
        row.quantized_share = coverage.quantized_share
        caveats.append(describe_shortfall(coverage))
    if tokens := quantize.get("expert_tokens"):
        caveats.append(describe_starved(tokens, calibration.get("min_tokens_per_expert", 0)))
    row.caveat = "; ".join(caveat for caveat in caveats if caveat) or None


def _add_floor(row: Row, floor: dict[str, Any] | None) -> None:
    if floor is None or floor.get("arithmetic") != row.arithmetic:
        return
    if (divergence := floor.get("divergence")) is not None:
        row.floor_kl_divergence = divergence["kl_divergence"]["mean"]["estimate"]
    if (change := floor.get("change")) is not None:
        row.floor_log_ratio = max(abs(math.log(change["ratio"][end])) for end in ("low", "high"))


def _add_quality(row: Row, eval_: dict[str, Any]) -> None:
    row.arithmetic = eval_.get("arithmetic") or None
    row.perplexity_protocol = eval_["perplexity"]["protocol"]
    row.perplexity = eval_["perplexity"]["value"]
    row.icc = eval_["perplexity"].get("icc")
    row.effective_windows = eval_["perplexity"].get("effective_windows")
    if (sample := eval_["perplexity"].get("sample")) is not None:
        row.sample = from_json(Sample, sample)
    if (divergence := eval_.get("divergence")) is not None:
        kl = divergence["kl_divergence"]["mean"]
        row.kl_divergence = kl["estimate"]
        row.kl_divergence_low, row.kl_divergence_high = kl.get("low"), kl.get("high")
        row.kl_divergence_metric = from_json(Divergence, divergence).metric("kl_divergence")
        row.top_1_agreement = divergence["top_1_agreement"]["mean"]["estimate"]
    change = eval_["change"]
    if change is None:
        return
    row.perplexity_delta = change["delta"]["estimate"]
    row.perplexity_delta_low = change["delta"]["low"]
    row.perplexity_delta_high = change["delta"]["high"]
    row.perplexity_ratio = change["ratio"]["estimate"]
    row.perplexity_ratio_low = change["ratio"]["low"]
    row.perplexity_ratio_high = change["ratio"]["high"]


def _add_speed(
    row: Row,
    bench: dict[str, Any],
    baseline: dict[str, Any] | None,
    again: dict[str, Any] | None,
) -> None:
    first = bench["batches"][0]
    row.batch_size = first["batch_size"]
    row.decode_tokens_per_second = first["decode_tokens_per_second"]["mean"]
    row.decode_tokens_per_second_sd = first["decode_tokens_per_second"]["sd"]
    row.time_to_first_token_seconds = first["time_to_first_token_seconds"]["mean"]
    row.memory_bandwidth_utilization = first["memory_bandwidth_utilization"]
    row.peak_memory_bytes = bench["device_peak_memory_bytes"] or bench["peak_memory_bytes"]
    if row.is_baseline:
        row.decode_ratio = 1.0
    elif told := against_unquantized(bench, baseline, again, first["batch_size"]):
        ratio = told.comparison.ratio
        row.decode_ratio = ratio.estimate
        if math.isfinite(ratio.high):
            row.decode_ratio_low, row.decode_ratio_high = ratio.low, ratio.high
        row.decode_within_noise = told.comparison.within_noise
        row.decode_compared = told.how.value
    elif baseline is not None:
        base: float = baseline["batches"][0]["decode_tokens_per_second"]["mean"]
        row.decode_ratio = row.decode_tokens_per_second / base if base else None
