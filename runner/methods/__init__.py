"""Quantization methods: one module each, found by its name.

A module that sets ``METHOD`` (see ``base``) is one. How to add one, here or outside the package:
docs/extending.md.
"""

from dataclasses import replace

from runner.config.schema.engine import Dtype
from runner.config.schema.method import Method
from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.methods.base import Capabilities, QuantizationMethod
from runner.methods.recipe import Recipe
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


def capabilities_of(method: Method) -> Capabilities:
    """What a configured method can do through the backend it names.

    Raises:
        UsageError: There is no such method, or it has no such backend.
    """
    backends = find_method(method.name).backends
    if method.backend not in backends:
        raise UsageError(
            f"method={method.name} has no backend {method.backend}; try "
            + " or ".join(f"method.backend={name}" for name in backends)
        )
    return backends[method.backend].of(method)


def used_recipe(config: Config) -> Recipe:
    """The recipe of a configuration, with the calibration that its method really uses."""
    recipe = Recipe(config.method, config.bits, config.group_size, config.calibration)
    recipe.calibration = find_method(config.method.name).calibration_for(recipe)
    if without_rounding_dtype(recipe):
        # What changes nothing makes no other recipe.
        recipe.method = replace(recipe.method, rounding_dtype=Dtype.auto)
    return recipe


def without_rounding_dtype(recipe: Recipe) -> str | None:
    """Why ``method.rounding_dtype`` has no effect on a recipe; ``None`` where it has one."""
    method = recipe.method
    if not method.rounds(recipe.bits):
        return "rounds no weights"
    capabilities = find_method(method.name).backends.get(method.backend)
    if capabilities is None or capabilities.rounds_in is None or recipe.calibration is not None:
        return None
    if recipe.bits.is_auto or method.keep_most_sensitive:
        return None
    return f"is implemented by {method.backend}, which always rounds in {capabilities.rounds_in}"


def chooses_types(config: Config) -> bool:
    """Whether a budget gives tensors types of the backend's own, which it has files of."""
    return config.bits.is_auto and capabilities_of(config.method).layer_types is not None
