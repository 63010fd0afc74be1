"""What a tracker is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.tracker import Tracker
from runner.evaluation.metrics.divergence import Divergence, TokenDistribution, TokenMean
from runner.evaluation.metrics.perplexity import metric_name
from runner.pipeline.observers import RunTracker
from runner.reporting.rows import Row
from runner.store.records import RunRecord, StageRecord
from runner.util.serialise import from_json

if TYPE_CHECKING:
    from runner.reporting.display import Display


@dataclass(frozen=True)
class SweepEnd:
    """What a tracker may say of a whole sweep once all its runs are over."""

    sweep: str
    records: list[RunRecord]
    rows: list[Row]
    files: list[Path]
    """The answer and its figures."""


@dataclass(frozen=True)
class TrackerImplementation:
    """A tracker: a module exposes one of these as ``TRACKER``."""

    start: "Callable[[Tracker, RunRecord, Display], RunTracker]"
    """Begins to follow a run, or the same one again when it is started again."""
    summarise: "Callable[[Tracker, SweepEnd, Display], None] | None" = None
    """Says something of a whole sweep; ``None`` when there is nothing to say."""
    reads: frozenset[str] | None = None
    """Fields of ``Tracker`` that have an effect, beside its name; ``None`` is all of them."""


def stage_metrics(stage: StageRecord) -> dict[str, float]:
    """A stage's headline numbers under names that carry unit and protocol.

    The unquantized model's are prefixed with ``baseline/``, and with ``baseline_again/`` where it
    was measured once more.
    """
    metrics = _METRICS.get(stage.stage, lambda _: {})(stage.result)
    metrics[f"{stage.stage}/seconds"] = stage.result["resources"]["seconds"]
    metrics[f"{stage.stage}/peak_memory_bytes"] = stage.result["resources"]["peak_memory_bytes"]
    bare = stage.subject == "recipe" or stage.stage == "floor"
    prefix = "" if bare else f"{stage.subject}/"
    return {f"{prefix}{name}": value for name, value in metrics.items() if value is not None}


def stage_words(stage: StageRecord) -> dict[str, str]:
    """What of a stage is no number and yet decides what its numbers compare with."""
    prefix = "baseline/" if stage.subject == "baseline" and stage.stage != "floor" else ""
    words = {name: stage.result.get(name) for name in ("arithmetic", "rounded_in")}
    return {f"{prefix}{stage.stage}/{name}": word for name, word in words.items() if word}


def _quantize(result: dict[str, Any]) -> dict[str, Any]:
    names = ("bits_per_weight", "bits_per_parameter", "checkpoint_bytes", "calibration_tokens")
    return {f"quantize/{name}": result[name] for name in names}


def _eval(result: dict[str, Any]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for measured in (result, *result.get("further", [])):
        found, change = measured["perplexity"], measured["change"]
        unit = found.get("unit", "token")
        stem, _, protocol = metric_name(found["protocol"], unit).partition("/")
        metrics[f"{stem}/{protocol}"] = found["value"]
        if unit == "byte":
            metrics[f"bits_per_byte/{protocol}"] = math.log2(found["value"])
        for name in ("ratio", "delta") if change is not None else ():
            metrics[f"{stem}_{name}/{protocol}"] = change[name]["estimate"]
            metrics[f"{stem}_{name}_low/{protocol}"] = change[name]["low"]
            metrics[f"{stem}_{name}_high/{protocol}"] = change[name]["high"]
    if (divergence := result.get("divergence")) is not None:
        metrics |= _divergence(from_json(Divergence, divergence))
    return metrics


def _floor(result: dict[str, Any]) -> dict[str, Any]:
    """What the arithmetic alone does, as a recipe's quality is told."""
    return {f"floor/{name}": value for name, value in _eval(result).items()}


def _divergence(found: Divergence) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name in ("kl_divergence", "reverse_kl_divergence", "probability_change"):
        tokens: TokenDistribution = getattr(found, name)
        metrics[found.metric(f"{name}_mean")] = tokens.mean.estimate
        metrics[found.metric(f"{name}_standard_error")] = tokens.standard_error
        for quantile, value in tokens.quantiles.items():
            metrics[found.metric(f"{name}_{quantile}")] = value
    change = found.probability_change
    metrics[found.metric("probability_change_rms")] = change.root_mean_square
    for name in ("top_1_agreement", "log_perplexity_ratio"):
        mean: TokenMean = getattr(found, name)
        metrics[f"{name}/{found.protocol}"] = mean.mean.estimate
        metrics[f"{name}_standard_error/{found.protocol}"] = mean.standard_error
    metrics[f"log_probability_correlation/{found.protocol}"] = found.log_probability_correlation
    return metrics


def _tasks(result: dict[str, Any]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for task in result["tasks"]:
        for score in task["scores"]:
            metric, filter_ = score["metric"], score["filter"]
            name = metric if filter_ == "none" else f"{metric}_{filter_}"
            found = {"": score["value"], "_stderr": score["standard_error"]}
            if change := score["change"]:
                found["_delta"] = change["delta"]
                found["_recovery_percent"] = change["recovery_percent"]
                found["_answers_changed"] = change["answers_changed"]
                if change["mcnemar"]:
                    found["_mcnemar_p"] = change["mcnemar"]["p_value"]
            metrics |= {f"{name}{end}/{task['task']}": value for end, value in found.items()}
    if overall := result["overall"]:
        metrics["tasks/mean_accuracy"] = overall["mean"]
        metrics["tasks/recovery_percent"] = overall["recovery_percent"]
    return metrics


def _overlap(result: dict[str, Any]) -> dict[str, Any]:
    return {
        f"calibration_overlap/{found['words']}_word_share": found["share"]
        for found in result["overlaps"]
    }


def _sensitivity(result: dict[str, Any]) -> dict[str, Any]:
    name = f"sensitivity/perplexity/{result['protocol']}"
    return {name: result["perplexity"], "sensitivity/rows": len(result["rows"])}


def _bench(result: dict[str, Any]) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        f"bench/{name}": result[name]
        for name in (
            "load_seconds",
            "checkpoint_bytes",
            "resident_memory_bytes",
            "device_peak_memory_bytes",
        )
    }
    for batch in result["batches"]:
        stem = f"bench/batch_{batch['batch_size']}"
        for name in (
            "prefill_tokens_per_second",
            "time_to_first_token_seconds",
            "inter_token_latency_seconds",
            "time_per_output_token_seconds",
            "request_latency_seconds",
            "decode_tokens_per_second",
        ):
            for statistic in ("mean", "sd", "p50", "p90", "p99"):
                metrics[f"{stem}/{name}/{statistic}"] = batch[name][statistic]
        for name in ("memory_bandwidth_utilization", "decode_noise", "energy_joules_per_token"):
            metrics[f"{stem}/{name}"] = batch.get(name)
        for name in ("kv_cache", "activations"):
            metrics[f"{stem}/{name}_bytes"] = batch.get("memory", {}).get(name)
        for used in batch.get("utilization", ()):
            for name in ("memory_bandwidth", "prefill_flops", "decode_flops"):
                metrics[f"{stem}/utilization_of_{used['limits']}/{name}"] = used[name]
    for turns in result.get("in_turns", ()):
        stem = f"bench/batch_{turns['batch_size']}/in_turns"
        for name in ("estimate", "low", "high"):
            metrics[f"{stem}/decode_ratio_{name}"] = turns["decode"]["ratio"][name]
    return metrics


def _plan(result: dict[str, Any]) -> dict[str, Any]:
    """The predicted best option's figures; ``None`` where nothing serves."""
    first = result["options"][0] if result["options"] else {}
    best = first if first.get("verdict") == "meets" else {}
    decode = best.get("decode_seconds") or {}
    return {
        "plan/options": len(result["options"]),
        "plan/best/predicted_decode_seconds": decode.get("expected"),
        "plan/best/predicted_cost_per_million_tokens": best.get("cost_per_million_tokens"),
        "plan/best/predicted_monthly_cost": best.get("monthly_cost"),
        "plan/best/devices": best.get("devices_needed"),
    }


def _serving(result: dict[str, Any]) -> dict[str, Any]:
    names = ("startup_seconds", "server_peak_memory_bytes")
    metrics = {f"serving/{name}": result[name] for name in names}
    for level in result["levels"]:
        stem = f"serving/concurrency_{level['concurrency']}"
        if level["concurrency"] is None:
            stem = f"serving/arrival_rate_{level['arrival_rate']:g}"
        for name in (
            "requests_per_second",
            "output_tokens_per_second",
            "attainment",
            "goodput_requests_per_second",
            "failed",
        ):
            metrics[f"{stem}/{name}"] = level[name]
        for name in (
            "time_to_first_token_seconds",
            "time_per_output_token_seconds",
            "request_latency_seconds",
        ):
            for statistic in ("mean", "p50", "p90", "p99"):
                metrics[f"{stem}/{name}/{statistic}"] = level[name][statistic]
    return metrics


_METRICS = {
    "quantize": _quantize,
    "eval": _eval,
    "tasks": _tasks,
    "floor": _floor,
    "overlap": _overlap,
    "bench": _bench,
    "plan": _plan,
    "sensitivity": _sensitivity,
    "serving": _serving,
}
