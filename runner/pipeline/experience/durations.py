"""How long work is going to take, by what work of the same kind took on this machine."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from runner.config.schema.root import Config
from runner.pipeline.progress import expected_stages
from runner.pipeline.stages import find_stage, stage_names
from runner.planning.compute_for import compute_for
from runner.planning.hardware.detect import Machine
from runner.planning.local import machine_key
from runner.store.durations import Duration

START = "start"
"""What is noted of a worker that imports its libraries, by its environment."""
REST = "rest"
"""What is noted of a run besides its stages: the tracker, records, what is looked up."""
_DECODED = 20.0
"""Tokens of a forward pass that take as long as one that is decoded."""
_OVERHEAD = 2000.0
"""Tokens whose forward pass takes as long as what does not grow with them, such as loading."""
_ALIKE = 1.1
_MOST_TIMES = 4.0
"""As much, or as little, beyond which time is not in proportion: what needs no text is another
kind of work than what reads some."""
_WHATEVER = 1.0
"""Work that is the same for every model."""


@dataclass(frozen=True)
class Kind:
    """A piece of work, by what decides how long it takes."""

    stage: str
    title: str
    model: str
    engine: str
    method: str
    work: float


def kind_of(stage: str, title: str, config: Config) -> Kind:
    """The kind of one stage's work in a run.

    Args:
        stage: Its name.
        title: As it is shown.
        config: The run's.
    """
    work = _WHATEVER
    if stage not in (START, REST):
        cost = find_stage(stage).cost(config, on_gpu=False)
        if cost.seconds is None:
            work = cost.tokens + _DECODED * cost.decoded_tokens
    return Kind(stage, title, config.model.name, config.engine.name, config.method.name, work)


def kinds_of(config: Config) -> list[Kind]:
    """The kinds of a run's own stages, in order."""
    return [kind_of(stage, f"{stage} {what}", config) for stage, what in expected_stages(config)]


def machine_of(config: Config, machine: Machine) -> str:
    """What of this machine decides a run's speed."""
    compute = compute_for(config, machine)
    return machine_key(machine.using(compute.gpus).to_dict(), compute.device)


class Durations:
    """What is known of one machine."""

    def __init__(self, known: Iterable[Duration]) -> None:
        """Learn from what was noted."""
        self._known: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        for one in known:
            kind = Kind(one.stage, one.title, one.model, one.engine, one.method, one.work)
            self.learn(kind, one.seconds)

    def learn(self, kind: Kind, seconds: float) -> None:
        """Take account of one more."""
        for key in _ladder(kind):
            self._known.setdefault(key, []).append((kind.work, seconds))

    def seconds(self, kind: Kind) -> float | None:
        """As work of the same kind took, in proportion; ``None`` where none is known."""
        found = (self._known[key] for key in _ladder(kind) if key in self._known)
        like = next(found, None)
        return None if like is None else _in_proportion(kind.work, like)


def _ladder(kind: Kind) -> list[tuple[str, ...]]:
    """What counts as the same kind, the most alike first."""
    stage, title, model = kind.stage, kind.title, kind.model
    if stage in (START, REST):
        return [(stage, title)]
    if kind.work == _WHATEVER:
        return [(stage, title), (stage,)]
    if stage not in stage_names():
        return [(stage, title, model)]
    if find_stage(stage).asks_engine:
        same = (stage, model, kind.engine)
        return [(*same, title), (*same, kind.method), same]
    return [(stage, model, kind.method, title), (stage, model, kind.method)]


def _in_proportion(work: float, like: list[tuple[float, float]]) -> float | None:
    """Seconds of so much work, from pairs of work and seconds; ``None`` if all was far from it."""
    alike = [s for w, s in like if 1 / _ALIKE <= (work + 1) / (w + 1) <= _ALIKE]
    if alike:
        return statistics.median(alike)
    nearest = min((w for w, _ in like), key=lambda w: abs(w - work))
    seconds = statistics.median(s for w, s in like if w == nearest)
    times = (work + _OVERHEAD) / (nearest + _OVERHEAD)
    return seconds * times if 1 / _MOST_TIMES <= times <= _MOST_TIMES else None
