"""Patches a module right after it is imported, whenever that happens."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def after_import(name: str, mend: Callable[[Any], None]) -> None:
    """Have ``mend`` called with module ``name`` once it has been imported.

    Importing a library only to mend it would slow down every worker.
    """
    if name in sys.modules:
        mend(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, mend))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, mend: Callable[[Any], None]) -> None:
        self._name = name
        self._mend = mend

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._mend)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, mend: Callable[[Any], None]) -> None:
        self._loader = loader
        self._mend = mend

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._mend(module)
