"""Fits engines' constants to published measurements, with and without the group they predict."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from benchmarks.predictions.answers import Case, answer
from benchmarks.predictions.points import MANY
from runner.planning.kernels.constants import EngineConstants, EngineFamily
from runner.planning.kernels.forward import Forward
from runner.planning.kernels.load import Load
from runner.planning.kernels.operators import Experts, Product, Reduce

# Where no measurement says otherwise: a value, and by how much (in logarithms) it may be off.
PRIORS: dict[str, tuple[float, float]] = {
    "layer_seconds": (10e-6, 0.7),
    "step_seconds": (5e-4, 0.7),
    "sequence_seconds": (8e-6, 1.0),
    "prefill_seconds": (10e-3, 0.7),
    "separate_prefill": (0.5, 0.4),
    "prompts_ahead": (0.12, 1.0),
    "floors": (0.8, 0.3),
    "reading": (1.0, 0.07),
    "computing": (1.0, 0.15),
    "expert_floors": (0.8, 0.4),
    "expert_reading": (0.9, 0.15),
    "expert_computing": (1.0, 0.3),
    "cache_reading": (1.0, 0.1),
    "attending": (1.0, 0.2),
    "reducing": (1.0, 0.25),
}
# Factors of a generation of devices on some of them, by how much they may be off.
OF_GENERATION = {
    "reading": 0.07,
    "computing": 0.15,
    "floors": 0.15,
    "layer_seconds": 0.2,
    "reducing": 0.4,
}
_NO_EXPERTS = Experts(0.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
_NO_REDUCE = Reduce(0.0, 0.0, 0.0, 0.0, 0.0)
_NO_PRODUCT = Product(0.0, 1.0, 0.0, 1.0, 0.0)
_NOISE = 0.06
_STEP, _REWEIGHTED = 1e-3, 12
_OF_MANY_PROMPTS, _OF_FULL_BATCHES = 0.1, 0.2
_OF_A_GROUP = 100
"""Points of a group that constants are fitted to: more of the same teach little."""


class Stack:
    """Cases of one family, as arrays."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = list(cases)
        most = max(len(case.forward.products) for case in cases)
        filled = [_filled(case.forward, most) for case in cases]
        self.forward: Forward = _stacked(filled)
        self.load: Load = _stacked([case.load for case in cases])
        self.measured = np.array([case.point.value for case in cases])
        self.generations = sorted({case.point.device.generation or "" for case in cases})
        index = {name: number for number, name in enumerate(self.generations)}
        self.generation = np.array([index[case.point.device.generation or ""] for case in cases])
        self.metrics = np.array([case.point.metric for case in cases])
        counts = Counter(case.point.group for case in cases)
        self.weights = np.array(
            [
                min(1.0, (_OF_A_GROUP / counts[case.point.group]) ** 0.5) * _weight(case)
                for case in cases
            ]
        )
        self.groups = [case.point.group for case in cases]

    def thin(self) -> "Stack":
        """At most so many cases of each group, evenly taken."""
        counts = Counter(self.groups)
        seen: Counter[tuple[str, str, str]] = Counter()
        chosen = []
        for group in self.groups:
            step = max(1.0, counts[group] / _OF_A_GROUP)
            number = seen[group]
            chosen.append(int(number / step) != int((number - 1) / step) or number == 0)
            seen[group] += 1
        return self.part(np.array(chosen))

    def predict(self, names: "Names", values: np.ndarray) -> np.ndarray:
        """In the units of the points."""
        constants = names.constants(values, self.generations, self.generation)
        model = replace(self.forward, constants=constants)
        result = np.zeros(len(self.cases))
        for metric in set(self.metrics):
            chosen = self.metrics == metric
            part, load = _chosen(model, chosen), _chosen(self.load, chosen)
            result[chosen] = answer(str(metric), part, load)
        return result

    def part(self, chosen: np.ndarray) -> "Stack":
        """Some of the cases."""
        other = object.__new__(Stack)
        other.cases = [case for case, keep in zip(self.cases, chosen, strict=True) if keep]
        other.groups = [group for group, keep in zip(self.groups, chosen, strict=True) if keep]
        other.forward = _chosen(self.forward, chosen)
        other.load = _chosen(self.load, chosen)
        for name in ("measured", "generation", "metrics", "weights"):
            setattr(other, name, getattr(self, name)[chosen])
        other.generations = self.generations
        return other


class Names:
    """Which numbers of a vector are which constants: as logarithms, relative to their priors."""

    def __init__(self, generations: Sequence[str]) -> None:
        self.generations = list(generations)
        self.keys = list(PRIORS)
        self.factors = [(name, key) for name in generations for key in OF_GENERATION]
        self.prior = np.array(
            [np.log(value) for value, _ in PRIORS.values()] + [0.0] * len(self.factors)
        )
        self.spread = np.array(
            [spread for _, spread in PRIORS.values()]
            + [OF_GENERATION[key] for _, key in self.factors]
        )

    def values(self, family: EngineFamily) -> np.ndarray:
        """The vector of a family's shipped constants."""
        plain = [getattr(family.constants, key) for key in self.keys]
        factors = [family.generations.get(name, {}).get(key, 1.0) for name, key in self.factors]
        return np.log(np.array(plain + factors))

    def constants(
        self, values: np.ndarray, generations: Sequence[str], index: np.ndarray
    ) -> EngineConstants:
        """As arrays, one number a case."""
        plain = np.exp(values)
        found = {}
        for number, key in enumerate(self.keys):
            factor = np.ones(len(generations))
            if key in OF_GENERATION:
                offset = len(self.keys)
                for place, (name, of) in enumerate(self.factors):
                    if of == key:
                        factor[list(generations).index(name)] = plain[offset + place]
            found[key] = plain[number] * factor[index]
        found["separate_prefill"] = np.minimum(found["separate_prefill"], 1.0)
        return EngineConstants(**found)

    def told(self, values: np.ndarray) -> dict[str, Any]:
        """As ``engines.yaml`` has them."""
        plain = np.exp(values)
        told: dict[str, Any] = {
            key: float(f"{min(plain[n], 1.0) if key == 'separate_prefill' else plain[n]:.3g}")
            for n, key in enumerate(self.keys)
        }
        factors: dict[str, dict[str, float]] = defaultdict(dict)
        for place, (name, key) in enumerate(self.factors):
            factors[name][key] = float(f"{plain[len(self.keys) + place]:.3g}")
        told["generations"] = dict(factors)
        return told


def fit(
    stack: Stack, names: Names, start: np.ndarray | None = None, rounds: int = 30
) -> np.ndarray:
    """The likeliest constants: of heavy-tailed errors (Cauchy), since some points are wrong."""

    def residuals(values: np.ndarray) -> np.ndarray:
        error = np.log(stack.predict(names, values) / stack.measured) / _NOISE
        robust = np.sign(error) * np.sqrt(2 * np.log1p(error**2 / 2))
        return np.concatenate([robust * stack.weights, (values - names.prior) / names.spread])

    begin = names.prior if start is None else start
    found: np.ndarray = least_squares(residuals, begin, max_nfev=rounds, xtol=1e-3, ftol=1e-4).x
    return found


def left_out(stack: Stack, names: Names, values: np.ndarray) -> np.ndarray:
    """Predictions of each group by constants that were fitted without it.

    Around the constants that were fitted to all, predictions' logarithms are taken as linear in the
    constants' own: so one derivative does for all groups, and each fit is a least-squares problem
    with robust weights. ``refitted`` is the long way.
    """
    fitted = np.log(stack.predict(names, values))
    slope = np.empty((len(fitted), len(values)))
    for number in range(len(values)):
        moved = values.copy()
        moved[number] += _STEP
        slope[:, number] = (np.log(stack.predict(names, moved)) - fitted) / _STEP
    off = fitted - np.log(stack.measured)
    predicted = np.zeros(len(fitted))
    for group in dict.fromkeys(stack.groups):
        mine = np.array([other == group for other in stack.groups])
        change = names.prior - values
        if not mine.all():
            change = _refit(slope[~mine], off[~mine], stack.weights[~mine], names, values)
        predicted[mine] = np.exp(fitted[mine] + slope[mine] @ change)
    return predicted


def _refit(
    slope: np.ndarray, off: np.ndarray, weights: np.ndarray, names: Names, values: np.ndarray
) -> np.ndarray:
    """Change of the constants that fits so many points best, priors kept."""
    change = np.zeros(len(values))
    for _ in range(_REWEIGHTED):
        error = (off + slope @ change) / _NOISE
        robust = weights / _NOISE / np.sqrt(1 + error**2 / 2)
        matrix = np.vstack([slope * robust[:, None], np.diag(1 / names.spread)])
        target = np.concatenate([-off * robust, (names.prior - values) / names.spread])
        change = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return change


def refitted(stack: Stack, names: Names, values: np.ndarray, rounds: int = 4) -> np.ndarray:
    """As ``left_out``, with a fit of its own for each group: minutes instead of a second."""
    predicted = np.zeros(len(stack.cases))
    for group in dict.fromkeys(stack.groups):
        mine = np.array([other == group for other in stack.groups])
        if mine.all():
            predicted[mine] = stack.predict(names, names.prior)[mine]
            continue
        found = fit(stack.part(~mine).thin(), names, values, rounds)
        predicted[mine] = stack.part(mine).predict(names, found)
    return predicted


def _weight(case: Case) -> float:
    """How much a point tells of constants.

    Times to the first token of many hang on when they came, and the best throughput on how many
    ran at once, which nobody says.
    """
    point = case.point
    if point.metric == "ttft_ms" and point.concurrency > 1:
        return _OF_MANY_PROMPTS
    return _OF_FULL_BATCHES if point.concurrency == MANY else 1.0


def _filled(model: Forward, most: int) -> Forward:
    lacking = most - len(model.products)
    return replace(
        model,
        products=model.products + (_NO_PRODUCT,) * lacking,
        experts=model.experts or _NO_EXPERTS,
        reduce=model.reduce or _NO_REDUCE,
    )


def _stacked(values: Sequence[Any]) -> Any:
    first = values[0]
    if is_dataclass(first):
        parts = {f.name: _stacked([getattr(v, f.name) for v in values]) for f in fields(first)}
        return type(first)(**parts)
    if isinstance(first, tuple):
        return tuple(_stacked(list(column)) for column in zip(*values, strict=True))
    return np.array(values, float)


def _chosen(value: Any, chosen: np.ndarray) -> Any:
    if is_dataclass(value):
        parts = {f.name: _chosen(getattr(value, f.name), chosen) for f in fields(value)}
        return type(value)(**parts)
    if isinstance(value, tuple):
        return tuple(_chosen(part, chosen) for part in value)
    return value[chosen]
