"""Engines: one module each, found by its name.

To add one, write ``runner/engines/<name>.py`` with an ``ENGINE`` (see ``base``) and
``conf/engine/<name>.yaml``.
"""

import importlib
import pkgutil

from runner.engines.base import EngineImplementation
from runner.errors import UsageError


def engine_names() -> list[str]:
    """Names of all engines, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def find_engine(name: str) -> EngineImplementation:
    """The engine called ``name``.

    Raises:
        UsageError: There is none.
    """
    if name not in engine_names():
        raise UsageError(f"no engine called {name!r}; there are {', '.join(engine_names())}")
    engine: EngineImplementation = importlib.import_module(f"runner.engines.{name}").ENGINE
    return engine
