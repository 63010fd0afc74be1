"""Which number formats weights and activations are stored in."""

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import BYTES, bounded


class NumberType(Enum):
    """Family of a number format."""

    int = "int"
    float = "float"
    bfloat = "bfloat"
    normal_float = "normal_float"
    """Quantiles of a normal distribution (NF4, QLoRA, arXiv 2305.14314)."""


@dataclass
class NumberFormat:
    """One number format: a family, a width, and the exponent's width where it matters."""

    type: NumberType = MISSING
    num_bits: int = bounded(MISSING, least=1, most=64)
    exponent_bits: Optional[int] = bounded(None, least=1, most=64)
    """For 8-bit floats: 4 is E4M3, 5 is E5M2 (arXiv 2209.05433)."""


def _candidates() -> list[int]:
    return [2, 3, 4, 8, 16]


def _float16() -> NumberFormat:
    return NumberFormat(type=NumberType.bfloat, num_bits=16)


@dataclass
class Bits:
    """The number formats of a recipe's weights and of the activations they meet.

    With a budget (``average`` or ``bytes``) every layer gets a width of its own out of
    ``candidates``, the less the more rounding is measured to harm it.
    """

    weight: NumberFormat = field(default_factory=NumberFormat)
    activation: NumberFormat = field(default_factory=_float16)
    average: Optional[float] = bounded(None, above=True, most=64)
    """Budget: average bits per weight of the quantized layers, without scales."""
    bytes: Optional[int] = bounded(None, least=1, most=BYTES)
    """Budget: total size of the checkpoint's tensors, in bytes."""
    candidates: list[int] = bounded(factory=_candidates, least=1, most=64, filled=True)
    """Widths to choose from; 16 leaves a layer unquantized."""

    @property
    def is_auto(self) -> bool:
        """True when layers get widths of their own."""
        return self.average is not None or self.bytes is not None

    def of_width(self, num_bits: int) -> "Bits":
        """The same formats with weights of one width everywhere."""
        weight = replace(self.weight, num_bits=num_bits)
        return Bits(weight=weight, activation=self.activation)

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        if self.is_auto:
            return {}
        return {"candidates": "has no budget, so that all layers get one width"}

    @property
    def is_integer_weights_alone(self) -> bool:
        """True when integer weights of one width meet activations of 16 bits."""
        whole = self.weight.type is NumberType.int and not self.is_auto
        return whole and self.activation.num_bits == 16

    @property
    def quantizes_activations(self) -> bool:
        """True when activations are rounded to fewer than 16 bits as well."""
        return self.activation.num_bits < 16

    @property
    def label(self) -> str:
        """Short name derived from the values (``w4a16``, ``nf4``, ``fp8_e4m3``, ``bf16``).

        It is derived, never stored, so that ``bits=w4a16 bits.weight.num_bits=3`` is
        called ``w3a16``. With a budget it is that: ``auto3.5``, ``auto90MB``.
        """
        return self._budget_label if self.is_auto else self._formats_label

    @property
    def _budget_label(self) -> str:
        average = "" if self.average is None else f"{self.average:g}"
        size = "" if self.bytes is None else f"{self.bytes / 1e6:g}MB"
        return f"auto{average}{size}"

    @property
    def _formats_label(self) -> str:
        weight, activation = _format_label(self.weight), _format_label(self.activation)
        if self.weight.type is NumberType.int:
            stem = f"w{self.weight.num_bits}"
            if self.activation.type is NumberType.int or activation == "bf16":
                return f"{stem}a{self.activation.num_bits}"
            return f"{stem}a_{activation}"
        if self.weight.num_bits >= 16 or activation in (weight, "bf16"):
            # What is usual goes without saying: fp8 means activations too, fp4 weights alone.
            if self.weight.num_bits == 8 and not self.quantizes_activations:
                return f"{weight}_a16"
            if self.weight.num_bits == 4 and self.quantizes_activations:
                return f"{weight}_a4"
            return weight
        return f"{weight}_a_{activation}"


def _format_label(number: NumberFormat) -> str:
    if number.type is NumberType.bfloat:
        return f"bf{number.num_bits}"
    if number.type is NumberType.normal_float:
        return f"nf{number.num_bits}"
    if number.type is NumberType.int:
        return f"int{number.num_bits}"
    if number.exponent_bits is not None:
        mantissa = number.num_bits - 1 - number.exponent_bits
        return f"fp{number.num_bits}_e{number.exponent_bits}m{mantissa}"
    return f"fp{number.num_bits}"
