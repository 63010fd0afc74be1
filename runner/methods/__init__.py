"""Quantization methods: one module each, found by its name.

A module that sets ``METHOD`` (see ``base``) is one. How to add one, here or outside the package:
docs/extending.md.
"""

from runner.methods.base import QuantizationMethod
from runner.util.extensions import Kind, find, loaded, names


def method_names() -> list[str]:
    """Names of all methods, plug-ins' included, sorted."""
    return names(Kind.method)


def quantizing_methods() -> dict[str, QuantizationMethod]:
    """All methods that can be loaded and that do more than cast, by name."""
    found = all_methods().items()
    return {name: one for name, one in found if not one.config(name=name).is_identity}


def all_methods() -> dict[str, QuantizationMethod]:
    """All methods that can be loaded, by name."""
    return loaded(Kind.method)


def find_method(name: str) -> QuantizationMethod:
    """The method called ``name``.

    Raises:
        UsageError: There is none, or it is a plug-in that cannot be loaded.
    """
    method: QuantizationMethod = find(Kind.method, name).load()
    return method
