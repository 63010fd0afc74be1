"""How many users each checkpoint's server keeps an objective for, and what they and devices get."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.schema.serving import ServiceLevelObjective
from runner.evaluation.serving.level import Level
from runner.evaluation.serving.search import Capacity
from runner.pipeline.stages.serving import LEFT_OUT, ServingResult
from runner.pipeline.stages.serving import STAGE as SERVING
from runner.planning.local import machine_key
from runner.store.records import BASELINE, RECIPE, RunRecord, Status

LIMITS = {
    "time_to_first_token_seconds": "TTFT",
    "time_per_output_token_seconds": "TPOT",
    "request_latency_seconds": "request",
}
"""Limits of an objective, as tables call them."""


@dataclass(frozen=True)
class Point:
    """What a server was seen to do for so many users."""

    concurrency: int
    tokens_per_second_per_user: float
    """1 / the median time per output token."""
    tokens_per_second_per_device: float
    """Of all users together, while each had a request in flight."""
    dollars_per_million_tokens: float | None
    """Generated ones, of devices kept as busy as that; ``None`` where no price is known."""
    time_to_first_token_seconds: float
    """Median."""
    attainment: float | None
    """Part of the requests that met the objective; ``None`` without one."""
    missed_most: str | None
    """The limit that most requests missed, of ``LIMITS``; ``None`` where none did."""


@dataclass(frozen=True)
class Curve:
    """A checkpoint's server at all the concurrencies that were measured."""

    recipe: str
    engine: str
    model: str
    sweep: str
    run: str
    machine: str
    devices: int
    objective: str
    """In words; empty where there is none."""
    tokens_per_second_per_user_asked: float | None
    """What the objective's limit on the time per output token comes to."""
    capacity: Capacity | None
    points: list[Point]
    """By concurrency."""

    @property
    def largest(self) -> Point | None:
        """At the most users for whom the objective was met."""
        return self._at(None if self.capacity is None else self.capacity.concurrency)

    @property
    def broken(self) -> Point | None:
        """At the fewest users for whom it was not."""
        return self._at(None if self.capacity is None else self.capacity.breaks_at)

    def _at(self, concurrency: int | None) -> Point | None:
        return next((point for point in self.points if point.concurrency == concurrency), None)


@dataclass(frozen=True)
class LeftOut:
    """A recipe that was not served, for it does not meet the limits."""

    recipe: str
    engine: str
    model: str
    reason: str


@dataclass(frozen=True)
class Served:
    """The servers of a sweep."""

    curves: list[Curve]
    """Those that do most on a device within the objective first."""
    left_out: list[LeftOut]

    def of_model(self, model: str) -> "Served":
        """The servers of one model."""
        return Served(
            [curve for curve in self.curves if curve.model == model],
            [one for one in self.left_out if one.model == model],
        )


def served(records: Sequence[RunRecord]) -> Served | None:
    """What servers did at one concurrency and more; ``None`` where nothing was served."""
    curves: list[Curve] = []
    seen = set()
    for record in records:
        for stage in record.stages:
            if stage.stage != SERVING.name or (stage.key, record.engine) in seen:
                continue
            seen.add((stage.key, record.engine))
            result = record.read(stage, SERVING)
            name = "unquantized" if stage.subject == BASELINE else record.label
            if result is not None and (curve := _curve(name, record, result)) is not None:
                curves.append(curve)
    left_out = [
        LeftOut(record.label, record.engine, record.model, warning.removeprefix(LEFT_OUT))
        for record in records
        if record.status is Status.ok and record.entry(SERVING.name, RECIPE) is None
        for warning in record.warnings
        if warning.startswith(LEFT_OUT)
    ]
    curves.sort(key=_rank)
    return Served(curves, left_out) if curves or left_out else None


def _rank(curve: Curve) -> tuple[str, str, float]:
    most = curve.largest.tokens_per_second_per_device if curve.largest else 0.0
    return curve.model, curve.machine, -most


def _curve(recipe: str, record: RunRecord, result: ServingResult) -> Curve | None:
    levels = [level for level in result.levels if level.concurrency is not None]
    points = [point for level in levels if (point := _point(level, result)) is not None]
    if not points:
        return None
    objective, share = _objective(record)
    limit = objective.time_per_output_token_seconds
    asked = f" for {share:.0%} of requests" if result.capacity is not None else ""
    return Curve(
        recipe=recipe,
        engine=record.engine,
        model=record.model,
        sweep=record.sweep,
        run=record.run,
        machine=machine_key(record.host, "cuda"),
        devices=result.devices,
        objective=f"{_words(objective)}{asked}" if objective.is_set else "",
        tokens_per_second_per_user_asked=1 / limit if limit else None,
        capacity=result.capacity,
        points=sorted(points, key=lambda point: point.concurrency),
    )


def _point(level: Level, result: ServingResult) -> Point | None:
    each, together = level.tokens_per_second_per_user, level.steady_tokens_per_second
    if level.concurrency is None or not each or not together:
        return None
    most = max(level.missed, key=lambda name: level.missed[name], default=None)
    return Point(
        concurrency=level.concurrency,
        tokens_per_second_per_user=each,
        tokens_per_second_per_device=together / result.devices,
        dollars_per_million_tokens=result.dollars_per_million_tokens(level),
        time_to_first_token_seconds=level.time_to_first_token_seconds.p50,
        attainment=level.attainment,
        missed_most=LIMITS.get(most) if most is not None and level.missed[most] else None,
    )


def _objective(record: RunRecord) -> tuple[ServiceLevelObjective, float]:
    asked = record.config.get("serving", {})
    limits = {name: (asked.get("slo") or {}).get(name) for name in LIMITS}
    return ServiceLevelObjective(**limits), float(asked.get("min_attainment") or 1.0)


def _words(objective: ServiceLevelObjective) -> str:
    """As in ``TTFT 500 ms, TPOT 50 ms``."""
    limits = {name: getattr(objective, name) for name in LIMITS}
    return ", ".join(
        f"{LIMITS[name]} {limit * 1e3:g} ms" for name, limit in limits.items() if limit is not None
    )
