"""Engines: one module each, found by its name.

To add one, write ``runner/engines/<name>.py`` with an ``ENGINE`` (see ``base``) and
``conf/engine/<name>.yaml``.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from runner.config.engine import Engine
from runner.engines.base import EngineImplementation
from runner.engines.traits import Traits
from runner.errors import UsageError
from runner.serialise import from_json

_HELPERS = {
    "base", "dequantize", "distributions", "footprints", "head", "loading", "overflow", "reading",
    "responses", "traits", "turns",
}  # fmt: skip


def engine_names() -> list[str]:
    """Names of all engines, sorted."""
    return [*_names()]


@functools.cache
def _names() -> tuple[str, ...]:
    # A report asks for them once a record: the folder is looked at once a process.
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS))


@functools.cache
def find_engine(name: str) -> EngineImplementation:
    """The engine called ``name``.

    Raises:
        UsageError: There is none.
    """
    if name not in _names():
        raise UsageError(f"no engine called {name!r}; there are {', '.join(engine_names())}")
    engine: EngineImplementation = importlib.import_module(f"runner.engines.{name}").ENGINE
    return engine


def traits_of(name: str) -> Traits:
    """The traits of the engine called ``name``; a plain one's where a record names one no more."""
    return find_engine(name).traits if name in _names() else Traits()


def names_with(trait: Callable[[Traits], object]) -> list[str]:
    """Names of the engines that have a trait."""
    return [name for name in engine_names() if trait(find_engine(name).traits)]


def reader_of(checkpoint_format: str) -> Engine:
    """Settings of the engine that reads checkpoints of a format best.

    Raises:
        UsageError: None reads them.
    """
    names = names_with(lambda traits: checkpoint_format in traits.reads_best)
    if not names:
        raise UsageError(f"no engine says that it reads {checkpoint_format} checkpoints best")
    return find_engine(names[0]).config(name=names[0])


def settings_from_json(content: dict[str, Any]) -> Engine:
    """An engine's settings as its own dataclass.

    Raises:
        UsageError: There is no such engine.
        ValueError: A field is missing or has the wrong type.
    """
    return from_json(find_engine(content["name"]).config, content)
