"""What a tracker is."""

from typing import Any, Protocol

from runner.store.records import RunRecord, StageRecord


class RunTracker(Protocol):
    """Follows one run."""

    def log_stage(self, stage: StageRecord) -> None:
        """A stage has a result."""

    def finish(self, record: RunRecord) -> None:
        """The run is over; called exactly once, however it ended."""


def stage_metrics(stage: StageRecord) -> dict[str, float]:
    """A stage's headline numbers under names that carry unit and protocol.

    The unquantized model's are prefixed with ``baseline/``.
    """
    metrics = _METRICS.get(stage.stage, lambda _: {})(stage.result)
    metrics[f"{stage.stage}/seconds"] = stage.result["resources"]["seconds"]
    metrics[f"{stage.stage}/peak_memory_bytes"] = stage.result["resources"]["peak_memory_bytes"]
    prefix = "baseline/" if stage.subject == "baseline" else ""
    return {f"{prefix}{name}": value for name, value in metrics.items() if value is not None}


def _quantize(result: dict[str, Any]) -> dict[str, Any]:
    names = ("bits_per_weight", "bits_per_parameter", "checkpoint_bytes", "calibration_tokens")
    return {f"quantize/{name}": result[name] for name in names}


def _eval(result: dict[str, Any]) -> dict[str, Any]:
    found, change = result["perplexity"], result["change"]
    protocol = found["protocol"]
    metrics = {f"perplexity/{protocol}": found["value"]}
    if change is not None:
        for name in ("ratio", "delta"):
            metrics[f"perplexity_{name}/{protocol}"] = change[name]["estimate"]
            metrics[f"perplexity_{name}_low/{protocol}"] = change[name]["low"]
            metrics[f"perplexity_{name}_high/{protocol}"] = change[name]["high"]
    return metrics


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
            "decode_tokens_per_second",
        ):
            for statistic in ("mean", "sd", "p50", "p90", "p99"):
                metrics[f"{stem}/{name}/{statistic}"] = batch[name][statistic]
        metrics[f"{stem}/memory_bandwidth_utilization"] = batch["memory_bandwidth_utilization"]
    return metrics


_METRICS = {"quantize": _quantize, "eval": _eval, "bench": _bench}
