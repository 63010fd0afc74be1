"""A recipe: what is done to a model's weights. It says nothing about speed."""

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.engine import Dtype
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.config.schema.text import Text, TextKind
from runner.util.serialise import from_json

if TYPE_CHECKING:
    from runner.config.schema.root import Config

_UNTOLD = ("ignore", "backend", "environment")
"""Fields of a method that its label leaves out, or tells in another way."""
_USUAL_TEXT = "openwebtext"


@dataclass
class Recipe:
    """Everything that determines a checkpoint besides the model it is made from."""

    method: Method
    bits: Bits
    group_size: GroupSize
    calibration: Calibration | None
    """``None`` when the method does not look at any text."""
    layer_bits: dict[str, int] | None = None
    """Width of each linear layer where they differ; 16 leaves a layer as it is."""

    @property
    def is_identity(self) -> bool:
        """True when the weights stay what they are (method ``none``)."""
        return self.method.is_identity

    @property
    def label(self) -> str:
        """Short readable name derived from the values, such as ``gptq-w4a16-g64``.

        A backend other than the method's own and knobs that differ from its defaults are
        told: ``gptq@auto_gptq-w4a16-g64``, ``rtn-w3a16-g64,sym=false``.
        """
        if self.is_identity:
            return f"none-{self.bits.label}"
        method = self.method
        defaults = type(method)(name=method.name)
        changed = (
            f",{field}={_shown(value)}"
            for field, value in vars(method).items()
            if value != getattr(defaults, field) and field not in _UNTOLD
        )
        maker = "" if method.backend == defaults.backend else f"@{method.backend}"
        scheme = method.scheme_label(self.bits, self.group_size)
        return f"{method.name}{maker}-{scheme}{''.join(changed)}{self._calibration_label()}"

    def _calibration_label(self) -> str:
        """The texts, where they are not the usual one: ``,calibration=bible+openwebtext``."""
        if self.calibration is None or not self.calibration.parts:
            return ""
        texts = self.calibration.texts_label
        # A file of the user's may be called like a text of ours.
        usual = texts == _USUAL_TEXT and not any(
            isinstance(part.text, Text) and part.text.kind is TextKind.file
            for part in self.calibration.parts
        )
        return "" if usual else f",calibration={texts}"


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list):
        return "+".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def recipe_from_json(content: dict[str, Any]) -> Recipe:
    """Build a recipe, its method with that method's own knobs, from JSON values.

    Raises:
        UsageError: There is no such method.
        ValueError: A field is missing or has the wrong type.
    """
    from runner.methods import find_method

    calibration = content["calibration"]
    return Recipe(
        method=from_json(find_method(content["method"]["name"]).config, content["method"]),
        bits=from_json(Bits, content["bits"]),
        group_size=from_json(GroupSize, content["group_size"]),
        calibration=None if calibration is None else from_json(Calibration, calibration),
        layer_bits=content.get("layer_bits"),
    )


def used_recipe(config: "Config") -> Recipe:
    """The recipe of a configuration, with the calibration that its method really uses."""
    from runner.methods import find_method

    recipe = Recipe(config.method, config.bits, config.group_size, config.calibration)
    recipe.calibration = find_method(config.method.name).calibration_for(recipe)
    if without_rounding_dtype(recipe):
        # What changes nothing makes no other recipe.
        recipe.method = replace(recipe.method, rounding_dtype=Dtype.auto)
    return recipe


def without_rounding_dtype(recipe: Recipe) -> str | None:
    """Why ``method.rounding_dtype`` has no effect on a recipe; ``None`` where it has one."""
    from runner.methods import find_method

    method = recipe.method
    if not method.rounds(recipe.bits):
        return "rounds no weights"
    abilities = find_method(method.name).backends.get(method.backend)
    if abilities is None or abilities.rounds_in is None or recipe.calibration is not None:
        return None
    if recipe.bits.is_auto or method.keep_most_sensitive:
        return None
    return f"is carried out by {method.backend}, which rounds in {abilities.rounds_in} and no other"
