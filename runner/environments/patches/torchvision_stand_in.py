"""GPTQModel 7.4.0: cannot be imported without torchvision, which it does not declare.

Its module for InternVL imports two names of it at the top, for pictures alone. The stand-in
exists only while that module is imported: transformers would take it for the real thing.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

_IMPORTER = "gptqmodel.models.definitions.internvl_chat"


def apply() -> None:
    """Have a stand-in at hand for the module that needs it, unless there is a torchvision."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != _IMPORTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def exec_module(self, module: ModuleType) -> None:
        stand_ins = _stand_ins()
        sys.modules |= stand_ins
        try:
            self._loader.exec_module(module)
        finally:
            for name in stand_ins:
                del sys.modules[name]


def _stand_ins() -> dict[str, ModuleType]:
    vision: Any = ModuleType("torchvision")
    vision.transforms = ModuleType("torchvision.transforms")
    vision.transforms.functional = ModuleType("torchvision.transforms.functional")
    vision.transforms.functional.InterpolationMode = type("InterpolationMode", (), {})
    return {
        module.__name__: module
        for module in (vision, vision.transforms, vision.transforms.functional)
    }
