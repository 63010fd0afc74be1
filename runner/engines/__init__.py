"""Engines: one module each, found by its name.

A module that sets ``ENGINE`` (see ``base``) is one. How to add one, here or outside the package:
docs/extending.md.
"""

from collections.abc import Callable

from runner.config.schema.engine import Engine
from runner.engines.base import EngineImplementation
from runner.engines.traits import Traits
from runner.errors import UsageError
from runner.util.extensions import Kind, find, loaded, names


def engine_names() -> list[str]:
    """Names of all engines, plug-ins' included, sorted."""
    return names(Kind.engine)


def all_engines() -> dict[str, EngineImplementation]:
    """All engines that can be loaded, by name."""
    return loaded(Kind.engine)


def find_engine(name: str) -> EngineImplementation:
    """The engine called ``name``.

    Raises:
        UsageError: There is none, or it is a plug-in that cannot be loaded.
    """
    engine: EngineImplementation = find(Kind.engine, name).load()
    return engine


def traits_of(name: str) -> Traits:
    """The traits of the engine called ``name``; a plain one's where a record names one no more."""
    return find_engine(name).traits if name in engine_names() else Traits()


def names_with(trait: Callable[[Traits], object]) -> list[str]:
    """Names of the engines that have a trait."""
    return [name for name, engine in all_engines().items() if trait(engine.traits)]


def computing_at_once(name: str, gpus: int) -> int:
    """How many devices' limits bound an engine's speed on so many GPUs (0: on a CPU)."""
    return max(1, gpus) if traits_of(name).computes_together else 1


def reader_of(checkpoint_format: str) -> Engine:
    """Settings of the engine that reads checkpoints of a format best.

    Raises:
        UsageError: None reads them.
    """
    names = names_with(lambda traits: checkpoint_format in traits.reads_best)
    if not names:
        raise UsageError(f"no engine says that it reads {checkpoint_format} checkpoints best")
    return find_engine(names[0]).config(name=names[0])
