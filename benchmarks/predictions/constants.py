"""Writes what is fitted: engines' constants, ranges, and the errors that are stated."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.predictions.answers import answer, case_of, regime_of
from benchmarks.predictions.fitting import Names, Stack, fit
from benchmarks.predictions.held import Held
from benchmarks.predictions.points import KV_TOKENS, Point
from benchmarks.predictions.report import STATED, figures
from runner.planning.kernels.constants import engine_family
from runner.planning.option import Range
from runner.util.yaml_files import load

_TABLES = Path(__file__).parents[2] / "runner" / "planning" / "kernels" / "tables"
_ENGINES = _TABLES / "engines.yaml"
_RANGES = _TABLES / "ranges.yaml"
_HEAD = """\
# Made by `python -m benchmarks.predictions --fit`: see docs/plan.md.
"""
_ELSEWHERE = "elsewhere"
_WHAT = {
    "one_dense": "one user, dense model",
    "one_small": "one user, model of less than 1.5 B parameters",
    "few_dense": "2 to 8 users, dense model",
    "many_dense": "more than 8 users, dense model",
    "one_experts": "one user, mixture of experts",
    "few_experts": "2 to 8 users, mixture of experts",
    "many_experts": "more than 8 users, mixture of experts",
    "first_token": "first token of one user",
    "first_token_small": "first token of one user, model of less than 1.5 B parameters",
    "first_token_under_load": "first token of several users",
    "throughput": "tokens per second of several users",
    "offline": "throughput of full batches",
    "fixed_batch": "a batch that starts together",
    "llama_cpp_decode": "llama.cpp, decoding",
    "llama_cpp_decode_experts": "llama.cpp, decoding, mixture of experts",
    "llama_cpp_prefill": "llama.cpp, prompts",
    "llama_cpp_prefill_experts": "llama.cpp, prompts, mixture of experts",
    _ELSEWHERE: "devices whose kernels nobody measured",
}
_LIKE = {"one_experts": "few_experts"}
_INSIDE, _INSIDE_EACH = 0.8, 0.75
_FEWEST = 8
_NEAR = (0.97, 1.03)
_STEPS = 120


def write_constants(points: Sequence[Point]) -> None:
    """Fit each family to its points; one without points keeps what it has."""
    content, told = load(_ENGINES), {}
    for name in content["engines"]:
        family = engine_family(name)
        mine = [p for p in points if p.family.name == name and p.metric != KV_TOKENS]
        if mine:
            stack = Stack([case_of(point) for point in mine])
            names = Names(stack.generations)
            values = names.told(fit(stack.thin(), names))
        else:
            values = {**vars(family.constants), "generations": dict(family.generations)}
        told[name] = {"kernels": list(family.kernels), "points": len(mine), **values}
    _write(_ENGINES, {**content, "engines": told})


def write_ranges(*files: Sequence[Held]) -> None:
    """Of each regime the narrowest range that holds four of five measurements, in each file.

    Its ends are among errors with and without each group, since a user's model and device may
    have been measured or not.

    Args:
        files: Points of each, held against predictions.
    """
    ranges = {}
    for name, what in _WHAT.items():
        mine = [_of(name, held) for held in files]
        if sum(map(len, mine)) < _FEWEST and name in _LIKE:
            mine = [_of(_LIKE[name], held) for held in files]
        if name == _ELSEWHERE:
            mine = [[_assumed(one) for one in held if _has_rows(one)] for held in files]
        points = [one for part in mine for one in part]
        low, high = _narrowest(mine)
        ranges[name] = {
            "what": what,
            "low": float(f"{min(low, _NEAR[0]):.3g}"),
            "high": float(f"{max(high, _NEAR[1]):.3g}"),
            "median_error": float(f"{np.median([one.error for one in points]):.2g}"),
            "points": len(points),
        }
    # What other commands measured stays: of a machine at hand `runner -cn roofline`.
    kept = {name: one for name, one in load(_RANGES).items() if name not in ranges}
    _write(_RANGES, ranges | kept)


def _has_rows(one: Held) -> bool:
    """Whether a point tells what kernels' rows are worth: its generation has some."""
    return one.point.metric == "tpot_ms" and one.point.is_exact and one.without is not None


def _assumed(one: Held) -> Held:
    """The same point as if nobody had measured kernels of its generation."""
    device = replace(one.point.device, architecture=None)
    case = case_of(replace(one.point, device=device))
    expected = answer(one.point.metric, case.forward, case.load)
    return Held(one.point, Range(expected, expected, expected), expected)


def _of(name: str, held: Sequence[Held]) -> list[Held]:
    """The points of a regime."""
    timed = (one for one in held if one.point.metric != KV_TOKENS and one.without is not None)
    return [one for one in timed if regime_of(one.point).name == name]


def _off(one: Held, expected: float) -> float:
    """Measured over expected, of a rate the reverse: as of times."""
    ratio = one.point.value / expected
    return 1 / ratio if one.point.metric.endswith("tok_s") else ratio


def _narrowest(files: Sequence[Sequence[Held]]) -> tuple[float, float]:
    """Low and high that enough points of each file with many lie between."""
    parts = [np.array([_off(one, one.range.expected) for one in part]) for part in files if part]
    everything = np.concatenate(parts)
    many = [part for part in parts if len(part) >= _FEWEST]
    without = [_off(one, one.without) for part in files for one in part if one.without is not None]
    both = np.concatenate([everything, without])
    ends = np.quantile(both, np.linspace(0, 1, _STEPS))
    best = (float(ends[0]), float(ends[-1]))
    for low in ends[: _STEPS // 2]:
        for high in ends[_STEPS // 2 :]:
            if high / low >= best[1] / best[0]:
                continue
            inside = np.mean((everything >= low) & (everything <= high))
            each = (np.mean((part >= low) & (part <= high)) for part in many)
            if inside >= _INSIDE and all(part >= _INSIDE_EACH for part in each):
                best = (float(low), float(high))
    return best


def write_stated(held: Sequence[Held]) -> None:
    """The figures that the benchmark holds itself to."""
    _write(STATED, figures(held))


def _write(path: Path, content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    path.write_text(_HEAD + text, "utf-8")
