"""What the runs measured: is it possible at all, and does it add up?"""

from collections.abc import Iterator
from typing import Any

from gpu_check import driver
from gpu_check.checks.runs import size
from gpu_check.outcome import Failed, NotPossible
from gpu_check.recipes import HF, LLAMA_CPP, VLLM, Recipe
from gpu_check.setting import Setting, bytes_in_words
from runner.evaluation.metrics.speed import BatchResult
from runner.pipeline.result import RunResult
from runner.pipeline.stages.bench import BenchResult
from runner.planning.hardware.products import NARROW_FLOATS
from runner.reporting.predictions import comparisons

_OVER = 1.05
"""What is measured may have over what is published: clocks differ."""
_ACCOUNTED = 0.05
_OWN_BYTES = 10**9
"""More than CUDA's context and the workspaces of its libraries should take on a GPU."""


def benches(setting: Setting) -> Iterator[tuple[Recipe, RunResult, BenchResult]]:
    """Of the recipes that ran."""
    for one in (*HF, *VLLM, *LLAMA_CPP):
        for record in setting.records.get(one.sweep, []):
            found = RunResult.of(record)
            bench = found.bench or found.baseline_bench
            if bench is not None:
                yield one, found, bench


def limits(setting: Setting) -> str:
    """The GPU's measured bandwidth and matrix rates beside the published ones."""
    for _, _, bench in benches(setting):
        measured, *published = bench.limits
        break
    else:
        raise NotPossible("no bench ran")
    setting.facts["limits"] = [vars(one) for one in bench.limits]
    if not measured.bandwidth_bytes_per_second:
        raise Failed("no bandwidth was measured")
    missing = [name for name in _expected(setting) if name not in measured.peak_teraflops]
    rates = ", ".join(f"{name} {rate:.4g}" for name, rate in measured.peak_teraflops.items())
    words = f"{measured.bandwidth_bytes_per_second / 1e9:.0f} GB/s; teraflops: {rates}"
    if missing:
        raise Failed(f"{words}; no rate of {', '.join(missing)}")
    for listed in published:
        for name, rate in measured.peak_teraflops.items():
            most = listed.peak_teraflops.get(name)
            if most and rate > _OVER * most:
                raise Failed(f"{words}; {listed.source} has at most {most:g} teraflops of {name}")
        most = listed.bandwidth_bytes_per_second
        if most and not 0.5 * most < measured.bandwidth_bytes_per_second < _OVER * most:
            raise Failed(f"{words}; {listed.source} has {most / 1e9:.0f} GB/s")
        words += f"; {listed.source} is listed with {(most or 0) / 1e9:.0f} GB/s"
    return words


def _expected(setting: Setting) -> list[str]:
    """Formats that a GPU of this generation has units for."""
    if not setting.gpus:
        return ["fp32"]
    major, _, minor = setting.gpus[0].compute_capability.partition(".")
    capability = (int(major), int(minor))
    narrow = [name for name, one in NARROW_FLOATS.items() if capability >= one.least_capability]
    return ["fp32", "fp16", *(["bf16"] if capability >= (8, 0) else []), *narrow]


def utilization(setting: Setting) -> str:
    """No run reads faster than the memory, and none computes faster than its units."""
    bandwidth, compute, unknown, wrong = [], [], [], []
    for one, _, bench in benches(setting):
        for batch in bench.batches:
            where = f"{one.name} at batch {batch.batch_size}"
            measured = next((u for u in batch.utilization if u.limits == "measured"), None)
            if measured is None or measured.memory_bandwidth is None:
                unknown.append(where)
                continue
            bandwidth.append(measured.memory_bandwidth)
            parts = [measured.prefill_flops, measured.decode_flops]
            compute += [part for part in parts if part is not None]
            for what, part in (
                ("MBU", bandwidth[-1]),
                *zip(("prefill MFU", "MFU"), parts, strict=True),
            ):
                if part is not None and not 0 < part < 1:
                    wrong.append(f"{what} {part:.2f} of {where}")
    if wrong:
        raise Failed("; ".join(wrong))
    if not bandwidth:
        raise NotPossible(f"no bench tells it{': ' if unknown else ''}{', '.join(unknown)}")
    words = f"MBU {min(bandwidth):.2f} to {max(bandwidth):.2f}"
    words += f", MFU up to {max(compute):.2f}" if compute else ", no MFU"
    return words + (f"; unknown of {', '.join(unknown)}" if unknown else "")


def predictions(setting: Setting) -> str:
    """Decode times that published efficiency predicts, beside the measured ones; never fails."""
    records = [record for one, *_ in benches(setting) for record in setting.records[one.sweep]]
    cases = [case for case in comparisons(records, records, setting.store) if case.uncalibrated]
    if not cases:
        raise NotPossible("no bench ran whose decode time can be predicted")
    setting.facts["predictions"] = [
        {
            "engine": one.case.engine,
            "recipe": one.case.recipe,
            "held": one.case.held.label,
            "batch": one.case.batch,
            "measured_seconds": one.case.measured_seconds,
            "predicted_seconds": one.uncalibrated,
        }
        for one in cases
    ]
    ratios = sorted(one.case.measured_seconds / (one.uncalibrated or 1) for one in cases)
    return (
        f"{len(cases)} cases take {ratios[0]:.2f} to {ratios[-1]:.2f} times what published "
        f"efficiency predicts, {ratios[len(ratios) // 2]:.2f} in the median"
    )


def memory(setting: Setting) -> str:
    """The unquantized model's memory, as its record accounts for it and as the driver sees it."""
    if not setting.gpus:
        raise NotPossible("a rehearsal on a CPU")
    model, load = size(setting)
    arguments = (*model, *HF[0].overrides, "stages=[bench]", *load)
    with driver.watched(setting.gpus) as seen:
        (record,) = setting.run("memory", *arguments, limit=120.0)
    found = RunResult.of(record)
    bench = found.bench or found.baseline_bench
    if bench is None or bench.device_peak_memory_bytes is None:
        raise Failed("its record holds no memory of the GPU")
    added, claimed = seen.at_the_end, bench.held_memory_bytes
    needed = bench.device_peak_memory_bytes
    setting.facts["memory"] = {
        "driver_bytes": added,
        "driver_peak_bytes": sum(seen.added),
        "record_bytes": claimed,
        "needed_bytes": needed,
        "parts": [vars(batch.memory.device) for batch in bench.batches if batch.memory.device],
    }
    if claimed is None:
        raise Failed("its record does not tell what the driver charges the process with")
    if needed > claimed:
        raise Failed(f"{bytes_in_words(needed)} were needed and {bytes_in_words(claimed)} held")
    own = claimed - needed
    words = (
        f"{bytes_in_words(claimed)} in the record, {bytes_in_words(added)} by the driver; of those "
        f"{bytes_in_words(needed)} are accounted for and {bytes_in_words(own)} are CUDA's own"
    )
    if own > _OWN_BYTES:
        raise Failed(f"{words}: more than a context takes")
    if abs(claimed - added) > _ACCOUNTED * added:
        raise Failed(f"{words}: {100 * abs(claimed - added) / added:.0f}% apart")
    return words


def rows(setting: Setting) -> list[dict[str, Any]]:
    """A line for each recipe and batch size, for the report."""
    predicted = {
        (one["engine"], one["recipe"], one["batch"]): one["predicted_seconds"]
        for one in setting.facts.get("predictions", [])
    }
    return [
        _row(one, found, bench, batch, predicted)
        for one, found, bench in benches(setting)
        for batch in bench.batches
    ]


def _row(
    one: Recipe,
    found: RunResult,
    bench: BenchResult,
    batch: BatchResult,
    predicted: dict[tuple[str, str, int], float],
) -> dict[str, Any]:
    scored = found.eval or found.baseline_eval
    label = found.record.label if found.quantize else "unquantized"
    used = next((u for u in batch.utilization if u.limits == "measured"), None)
    speed, mbu = batch.decode_tokens_per_second.mean, batch.memory_bandwidth_utilization
    return {
        "recipe": one.name,
        "bits_per_weight": found.quantize.bits_per_weight if found.quantize else None,
        "perplexity": scored.perplexity.value if scored else None,
        "arithmetic": batch.arithmetic,
        "batch": batch.batch_size,
        "decode_tokens_per_second": speed,
        "bound_tokens_per_second": speed / mbu if mbu else None,
        "mbu": mbu,
        "prefill_mfu": used.prefill_flops if used else None,
        "predicted_seconds": predicted.get((bench.engine, label, batch.batch_size)),
        "step_seconds": batch.time_per_output_token_seconds.mean,
        "weight_bytes": bench.footprint.weight_bytes,
        "device_peak_memory_bytes": bench.device_peak_memory_bytes,
    }
