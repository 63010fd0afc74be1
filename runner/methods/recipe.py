"""A recipe: how a model's weights are quantized. It does not describe speed."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.layer_format import LayerFormat, formats_of
from runner.config.schema.method import Method
from runner.config.schema.text import Text, TextKind
from runner.util.by_name import ByName
from runner.util.extensions import Kind

_UNTOLD = ("ignore", "backend", "environment")
"""Fields of a method that its label leaves out, or tells in another way."""
_USUAL_TEXT = "openwebtext"


@dataclass
class Recipe:
    """Everything that determines a checkpoint besides the model it is made from."""

    method: Annotated[Method, ByName(Kind.method)]
    bits: Bits
    group_size: GroupSize
    calibration: Calibration | None
    """``None`` when the method does not look at any text."""
    layer_formats: dict[str, str] | None = None
    """Format of each linear layer where they differ, named as ``bits.candidates`` are."""

    @property
    def own_format(self) -> LayerFormat:
        """Of every layer, where they do not differ."""
        return LayerFormat(self.bits, self.group_size)

    def format_named(self, name: str) -> LayerFormat | None:
        """What the name of a layer's format means here; ``None`` leaves the layer as it is."""
        return LayerFormat.named(name, self.group_size)

    @property
    def formats(self) -> list[LayerFormat]:
        """All that layers may get, but for those that stay as they are."""
        return formats_of(self.bits, self.group_size, self.method)

    @property
    def is_identity(self) -> bool:
        """True when the weights stay what they are (method ``none``)."""
        return self.method.is_identity

    @property
    def label(self) -> str:
        """Short readable name derived from the values, such as ``gptq-w4a16-g64``.

        A backend other than the method's own and options that differ from its defaults are
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
        return "+".join(map(_shown, value))
    if isinstance(value, dict):
        return "+".join(f"{key}:{_shown(one)}" for key, one in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)
