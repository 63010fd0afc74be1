"""Records as runs leave them, made up where a test needs their numbers to be round."""

import copy
import dataclasses
import math
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

from runner.evaluation.metrics.noise import compare
from runner.evaluation.metrics.perplexity import Perplexity
from runner.pipeline.experience.data_points import DataPoint
from runner.pipeline.experience.fitted_constants import PredictedCase
from runner.pipeline.stages import find_stage, stage_names
from runner.planning.formats import Format
from runner.planning.kernels.measured import StepWork
from runner.planning.model_shape import Shape
from runner.reporting.quality.evaluated import Circumstances, Evaluated
from runner.store.records import RECIPE, RunRecord, StageRecord, Status
from runner.util.serialise import to_json
from tests.unit.small_plan import SMALL

CONFIG = {
    "model": {"name": "small"},
    "method": {"name": "gptq", "backend": "llm_compressor"},
    "bits": {
        "weight": {"type": "int", "num_bits": 4},
        "activation": {"type": "bfloat", "num_bits": 16},
    },
    "group_size": {"granularity": "group", "size": 64},
    "calibration": {"name": "openwebtext", "samples": 16, "seed": 0},
    "eval": {"text": {"name": "wikipedia"}},
    "hardware": {"name": "local"},
}  # fmt: skip


def whole(name: str, partial: dict[str, Any]) -> dict[str, Any]:
    """JSON form of a stage's result: what a test says of it, and nothing of note for the rest."""
    if name not in (*stage_names(), "floor", "tasks_floor", "overlap"):
        return partial
    content: dict[str, Any] = completed(find_stage(name).result, partial)
    return content


def completed(kind: Any, partial: Any) -> Any:
    """As ``whole``, of any dataclass."""
    if isinstance(partial, dict) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        required = {
            one.name: _nothing(hints[one.name])
            for one in dataclasses.fields(kind)
            if one.default is one.default_factory is dataclasses.MISSING
        }
        if kind is Perplexity:
            count = len(partial.get("window_losses", ()))
            required |= {"windows": count, "tokens_scored": count}
        given = {key: completed(hints.get(key), value) for key, value in partial.items()}
        return required | given
    inside = typing.get_args(kind)
    if isinstance(partial, list) and inside:
        return [completed(inside[0], one) for one in partial]
    if isinstance(partial, dict) and typing.get_origin(kind) is types.UnionType:
        return completed(next(one for one in inside if one is not type(None)), partial)
    return partial


def _nothing(kind: Any) -> Any:
    """The least that a field of a type may hold."""
    if type(None) in typing.get_args(kind):
        return None
    origin = typing.get_origin(kind) or kind
    if dataclasses.is_dataclass(origin):
        return completed(origin, {})
    if issubclass(origin, Enum):
        return next(iter(origin)).value
    return "" if issubclass(origin, Path) else origin()


def summary(mean: float, spread: float = 0.02) -> dict[str, Any]:
    samples = [mean * (1 - spread), mean, mean * (1 + spread)]
    percentiles = dict.fromkeys(("p50", "p90", "p99"), mean)
    return {"mean": mean, "sd": spread * mean, **percentiles, "samples": samples}


def interval(estimate: float, half: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def evaluation(losses: list[float], perplexity: float, baseline: float | None) -> dict[str, Any]:
    change = None
    if baseline is not None:
        delta, ratio = perplexity - baseline, perplexity / baseline
        change = {"delta": interval(delta, 0.1), "ratio": interval(ratio, 0.01)}
    found = {"protocol": "gptq_512", "value": perplexity, "window_losses": losses}
    return {"perplexity": found, "change": change}


def measured(value: float, losses: tuple[float, ...] | None = None) -> Evaluated:
    """A perplexity that is known exactly, or of these losses: windows of one token each."""
    losses = losses or tuple(math.log(value) + shift for shift in (0.3, 0.0, -0.3))
    where = Circumstances("f", "small", ("t", None), "float32", "d", (), (1,) * len(losses))
    places = tuple(range(len(losses)))
    units = float(len(losses))
    return Evaluated("perplexity/m", value, where, ("0",), (losses,), (), (), "kl", places, units)


def bench(speed: float, size: int) -> dict[str, Any]:
    batches = [
        {
            "batch_size": batch,
            "decode_tokens_per_second": summary(speed * batch),
            "time_to_first_token_seconds": summary(0.2),
            "prefill_tokens_per_second": summary(320.0),
            "inter_token_latency_seconds": summary(1 / speed),
            "time_per_output_token_seconds": summary(1 / speed),
            "request_latency_seconds": summary(0.2 + 15 / speed),
            "memory_bandwidth_utilization": 0.5,
        }
        for batch in (1, 4)
    ]
    return {
        "batches": batches,
        "prompt_tokens": 64,
        "new_tokens": 16,
        "load_seconds": 1.5,
        "resident_memory_bytes": size,
        "checkpoint_bytes": size,
        "device_peak_memory_bytes": None,
        "peak_memory_bytes": 2 * size,
    }


def turns(speed: float, dense: float) -> list[dict[str, Any]]:
    """Repetitions in turns with the unquantized model; the pairs' ratios spread by 3%."""
    found = []
    for batch in (1, 4):
        one, other = summary(speed * batch), summary(dense * batch)
        other["samples"].append(other["samples"].pop(0))
        decode = compare(one["samples"], other["samples"], paired=True)
        latency = compare([0.2, 0.21, 0.22], [0.21, 0.2, 0.22], paired=True)
        found.append(
            {
                "batch_size": batch,
                "decode_tokens_per_second": one,
                "baseline_decode_tokens_per_second": other,
                "decode": to_json(decode),
                "time_to_first_token": to_json(latency),
            }
        )
    return found


def apart(record: RunRecord) -> RunRecord:
    """The record as older versions left it: recipe and unquantized model measured separately."""
    record = copy.deepcopy(record)
    content_of(record, "bench")["in_turns"] = []
    return record


def content_of(record: RunRecord, name: str, subject: str = RECIPE) -> dict[str, Any]:
    """JSON form of a stage's result, to be changed before anybody reads it."""
    entry = record.entry(name, subject)
    assert entry is not None
    return unread(entry).result


def unread(entry: StageRecord) -> StageRecord:
    """The stage, to be changed though somebody has read it."""
    entry.__post_init__()
    return entry


def stage(name: str, subject: str, result: dict[str, Any]) -> StageRecord:
    versions = {"torch": "2.13.0"}
    result = {**whole(name, result), "resources": {"seconds": 1.0, "peak_memory_bytes": 10**9}}
    return StageRecord(name, subject, "0123abcd", False, 1.0, "default", versions, result)


def record(number: int, label: str, stages: list[StageRecord], **changes: Any) -> RunRecord:
    content: dict[str, Any] = {
        "sweep": "demo",
        "run": f"{number:03d}-{label}",
        "label": label,
        "model": "small",
        "engine": "hf",
        "status": Status.ok,
        "reason": None,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 2.0,
        "overrides": ["method=gptq"],
        "config": copy.deepcopy(CONFIG),
        "versions": {"quant-runner": "0.1.0"},
        "host": {"cpu_name": "Test CPU", "gpus": []},
        "stages": copy.deepcopy(stages),
    }
    return RunRecord(**(content | changes))


BASE = [
    stage("eval", "baseline", evaluation([3.0, 3.1, 2.9], 20.0, None)),
    stage("bench", "baseline", bench(40.0, 270_000_000)),
]


def recipe(
    number: int, label: str, perplexity: float, speed: float, size: int, **changes: Any
) -> RunRecord:
    shift = (perplexity - 20.0) / 20.0
    losses = [3.0 + shift, 3.1 + shift * 1.1, 2.9 + shift * 0.9]
    made = {
        "bits_per_weight": 4.25,
        "bits_per_parameter": 6.7,
        "checkpoint_bytes": size,
        "calibration_tokens": 9,
    }
    own = [
        stage("quantize", "recipe", made),
        stage("eval", "recipe", evaluation(losses, perplexity, 20.0)),
        stage("bench", "recipe", bench(speed, size) | {"in_turns": turns(speed, 40.0)}),
    ]  # fmt: skip
    return record(number, label, BASE + own, **changes)


def comparison() -> PredictedCase:
    """A decode step of 50 ms that was predicted as 40 ms, and as 48 ms once calibrated."""
    case = DataPoint(
        machine="here", engine="hf", device="cpu", held=Format("bf16", 16, "bf16"),
        dtype="float32", model="small", shape=Shape(SMALL), recipe="none-bf16", batch=1, context=72,
        streamed_bytes=1e9, operations=1e9, bandwidth_bytes_per_second=2e10, measured_seconds=0.05,
        work=StepWork(1e9, 0.0, 0.0, 1e9, 0.0, 15.0),
    )  # fmt: skip
    return PredictedCase(case, 0.04, 0.048, 7)


def with_quality(
    number: int, worse: float, kl: list[float], speed: float = 40.0, sweep: str = "mine"
) -> RunRecord:
    """A run whose losses are above the unquantized model's by about as much in every window."""
    made = recipe(number, f"r{number}", 20.0, speed, 100, sweep=sweep)
    shifts = [0.01, -0.02, 0.01]
    base = [3.0, 3.1, 2.9]
    losses = [one + worse + shift for one, shift in zip(base, shifts, strict=True)]
    found = content_of(made, "eval")
    found["perplexity"] |= {"window_losses": losses, "value": math.exp(sum(losses) / 3)}
    found["divergence"] = {
        "protocol": "gptq_512",
        "kl_divergence": {"mean": {"estimate": sum(kl) / 3, "low": 0.0, "high": 1.0}},
        "window_kl_divergence": kl,
    }
    found |= whole("eval", found)
    content_of(made, "eval", "baseline")["perplexity"]["value"] = math.exp(3.0)
    made.model_fingerprint = "f"
    return copy.deepcopy(made)


def with_answers(made: RunRecord, right: str, base: str) -> RunRecord:
    """The run with its answers to one task and the unquantized model's, a digit an item."""
    for subject, own in (("baseline", base), ("recipe", right)):
        score = {"metric": "acc", "filter": "none", "value": own.count("1") / len(own),
                 "higher_is_better": True, "change": None, "outcomes": own,
                 "items_sha256": "i"}  # fmt: skip
        tasks = [{"task": "t", "scores": [score], "asked_for": True}]
        overall = {"mean": own.count("1") / len(own), "tasks": 1}
        made.stages.append(stage("tasks", subject, {"overall": overall, "tasks": tasks}))
    return made
