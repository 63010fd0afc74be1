"""Figures of a benchmark under names that carry unit and batch size."""

from typing import TYPE_CHECKING

from runner.evaluation.metrics.speed import BatchMemory
from runner.evaluation.metrics.statistics import Summary

if TYPE_CHECKING:
    from runner.pipeline.stages.bench import BenchResult


def metrics_of(result: "BenchResult") -> dict[str, float | None]:
    """Loading, memory, and rates and latencies at every batch size."""
    metrics: dict[str, float | None] = {
        "bench/load_seconds": result.load_seconds,
        "bench/checkpoint_bytes": result.checkpoint_bytes,
        "bench/resident_memory_bytes": result.resident_memory_bytes,
        "bench/device_peak_memory_bytes": result.device_peak_memory_bytes,
    }
    for batch in result.batches:
        stem = f"bench/batch_{batch.batch_size}"
        for name in (
            "prefill_tokens_per_second",
            "time_to_first_token_seconds",
            "inter_token_latency_seconds",
            "time_per_output_token_seconds",
            "request_latency_seconds",
            "decode_tokens_per_second",
        ):
            summary: Summary = getattr(batch, name)
            for statistic in ("mean", "sd", "p50", "p90", "p99"):
                metrics[f"{stem}/{name}/{statistic}"] = getattr(summary, statistic)
        metrics[f"{stem}/memory_bandwidth_utilization"] = batch.memory_bandwidth_utilization
        metrics[f"{stem}/decode_noise"] = batch.decode_noise
        metrics[f"{stem}/energy_joules_per_token"] = batch.energy_joules_per_token
        metrics[f"{stem}/kv_cache_bytes"] = batch.memory.kv_cache
        metrics[f"{stem}/activations_bytes"] = batch.memory.activations
        metrics |= _of_device(f"{stem}/device", batch.memory)
        for used in batch.utilization:
            of = f"{stem}/utilization_of_{used.limits}"
            metrics[f"{of}/memory_bandwidth"] = used.memory_bandwidth
            metrics[f"{of}/prefill_flops"] = used.prefill_flops
            metrics[f"{of}/decode_flops"] = used.decode_flops
    for turns in result.in_turns:
        stem, ratio = f"bench/batch_{turns.batch_size}/in_turns", turns.decode.ratio
        metrics[f"{stem}/decode_ratio_estimate"] = ratio.estimate
        metrics[f"{stem}/decode_ratio_low"] = ratio.low
        metrics[f"{stem}/decode_ratio_high"] = ratio.high
    return metrics


def _of_device(stem: str, memory: BatchMemory) -> dict[str, float | None]:
    device, held = memory.device, memory.held
    return {
        f"{stem}_{name}_bytes": None if device is None else getattr(device, name)
        for name in ("weights", "kv_cache", "kv_cache_reserved", "other", "needed")
    } | {f"{stem}_held_bytes": None if held is None else held.bytes}
