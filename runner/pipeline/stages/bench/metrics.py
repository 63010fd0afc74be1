"""Figures of a benchmark under names that carry unit and batch size, and its tables."""

from typing import TYPE_CHECKING

from runner.evaluation.metrics.speed import BatchMemory
from runner.evaluation.metrics.statistics import Summary
from runner.pipeline.stages.base import Cells, quantile_rows

if TYPE_CHECKING:
    from runner.pipeline.stages.bench import BenchResult

_SUMMARIES = (
    "prefill_tokens_per_second",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "time_per_output_token_seconds",
    "request_latency_seconds",
    "decode_tokens_per_second",
)


def metrics_of(result: "BenchResult") -> dict[str, float | None]:
    """Loading, memory, and rates and latencies at every batch size: means, where several."""
    metrics: dict[str, float | None] = {
        "bench/load_seconds": result.load_seconds,
        "bench/checkpoint_bytes": result.checkpoint_bytes,
        "bench/resident_memory_bytes": result.resident_memory_bytes,
        "bench/device_peak_memory_bytes": result.device_peak_memory_bytes,
    }
    for batch in result.batches:
        own: dict[str, float | None] = {}
        for name in _SUMMARIES:
            summary: Summary = getattr(batch, name)
            own |= {name: summary.mean, f"{name}_sd": summary.sd}
        own["memory_bandwidth_utilization"] = batch.memory_bandwidth_utilization
        own["decode_noise"] = batch.decode_noise
        own["energy_joules_per_token"] = batch.energy_joules_per_token
        own["kv_cache_bytes"] = batch.memory.kv_cache
        own["activations_bytes"] = batch.memory.activations
        own |= _of_device(batch.memory)
        for used in batch.utilization:
            of = f"utilization_of_{used.limits}"
            own[f"{of}_memory_bandwidth"] = used.memory_bandwidth
            own[f"{of}_prefill_flops"] = used.prefill_flops
            own[f"{of}_decode_flops"] = used.decode_flops
        metrics |= {f"bench/{name}/batch_{batch.batch_size}": own[name] for name in own}
    for turns in result.in_turns:
        ratio, batch_size = turns.decode.ratio, turns.batch_size
        metrics[f"bench/decode_ratio/batch_{batch_size}"] = ratio.estimate
        metrics[f"bench/decode_ratio_low/batch_{batch_size}"] = ratio.low
        metrics[f"bench/decode_ratio_high/batch_{batch_size}"] = ratio.high
    return metrics


def tables_of(result: "BenchResult") -> dict[str, Cells]:
    """Every repetition, one line a sample; and quantiles over repetitions."""
    samples = [
        [batch.batch_size, metric, number, sample]
        for batch in result.batches
        for metric, value in vars(batch).items()
        if isinstance(value, Summary)
        for number, sample in enumerate(value.samples)
    ]
    quantiles = [
        row
        for batch in result.batches
        for name in _SUMMARIES
        for row in quantile_rows(f"batch_{batch.batch_size}", name, getattr(batch, name))
    ]
    return {
        "bench/samples": (["batch_size", "metric", "repetition", "value"], samples),
        "bench/quantiles": (["of", "metric", "quantile", "value"], quantiles),
    }


def _of_device(memory: BatchMemory) -> dict[str, float | None]:
    device, held = memory.device, memory.held
    return {
        f"device_{name}_bytes": None if device is None else getattr(device, name)
        for name in ("weights", "kv_cache", "kv_cache_reserved", "other", "needed")
    } | {"device_held_bytes": None if held is None else held.bytes}
