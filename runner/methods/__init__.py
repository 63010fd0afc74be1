"""Quantization methods: one module each, found by its name.

To add one, write ``runner/methods/<name>.py`` with a ``METHOD`` (see ``base``) and
``conf/method/<name>.yaml``.
"""

import functools
import importlib
import pkgutil

from runner.errors import UsageError
from runner.methods.base import QuantizationMethod

_HELPERS = {"base", "llm_compressor", "bits_and_bytes", "holders"}


def method_names() -> list[str]:
    """Names of all methods, sorted."""
    return [*_names()]


@functools.cache
def _names() -> tuple[str, ...]:
    # A report asks for them once a record: the folder is looked at once a process.
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS))


@functools.cache
def find_method(name: str) -> QuantizationMethod:
    """The method called ``name``.

    Raises:
        UsageError: There is none.
    """
    if name not in _names():
        raise UsageError(f"no method called {name!r}; there are {', '.join(method_names())}")
    method: QuantizationMethod = importlib.import_module(f"runner.methods.{name}").METHOD
    return method
