"""Stages: one module or package each, found by name; ``jobs`` has what they need first.

Each exposes ``STAGE``: see ``base.Stage``. Dataclasses come first and are light;
heavy imports are inside functions, for workers import these modules too.
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.util.extensions import Kind, find, names

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.stages.base import Stage
    from runner.store.inventory import Retention


def stage_names() -> list[str]:
    """Names of the stages that a user can ask for, plug-ins' included, sorted. Imports none."""
    return names(Kind.stage)


@functools.cache
def _job_names() -> frozenset[str]:
    """Names of what workers do besides: texts, windows, conversions, checks."""
    from runner.pipeline.stages import jobs

    return frozenset(module.name for module in pkgutil.iter_modules(jobs.__path__))


def find_stage(name: str) -> "Stage[Any, Any]":
    """The stage or job called ``name``.

    Raises:
        UsageError: There is none, or it is a plug-in that cannot be loaded.
    """
    stage: Stage[Any, Any]
    if name in _job_names():
        stage = importlib.import_module(f"runner.pipeline.stages.jobs.{name}").STAGE
    else:
        stage = find(Kind.stage, name).load()
    return stage


def retention_of(name: str) -> "Retention":
    """Which results of a stage are spared when a store is pruned."""
    from runner.store.inventory import Retention

    try:
        return find_stage(name).retention
    except UsageError:  # of a plug-in that is not here: nothing is known of its results
        return Retention.always


def loads_model(config: "Config") -> bool:
    """Whether a run computes with the model's weights."""
    return any(find_stage(name).loads_model for name in config.stages)


def asks_engine(config: "Config") -> bool:
    """Whether a run has the engine load what it looks at."""
    return any(find_stage(name).asks_engine for name in config.stages)


def in_order(names: Iterable[str]) -> "list[Stage[Any, Any]]":
    """Stages in the order in which a run goes through them: each after those it follows."""
    stages = {name: find_stage(name) for name in sorted(set(names))}
    ordered: list[Stage[Any, Any]] = []
    while stages:
        ready = [s for s in stages.values() if not _before(s.name, {*stages} - {s.name})]
        # Of a circle the first goes first: what is asked for is carried out.
        first = min(ready or stages.values(), key=lambda s: (s.place.value, s.name))
        ordered.append(stages.pop(first.name))
    return ordered


def _before(name: str, among: set[str]) -> set[str]:
    """Those of ``among`` that a stage follows, directly or through others."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        one = find_stage(waiting.pop())
        fresh = {other for other in one.follows if other not in seen}
        seen |= fresh
        waiting.extend(fresh)
    return seen & among
