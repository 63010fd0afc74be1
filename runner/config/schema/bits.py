"""Which number formats weights and activations are stored in."""

import re
from dataclasses import dataclass, field
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


STANDARD_NAMES = {
    # NVIDIA, "Pretraining Large Language Models with NVFP4" (arXiv 2509.25149): scales in E4M3.
    "nvfp4": ("fp4", "g16"),
    "nvfp4_a4": ("fp4_a4", "g16"),
    # OCP Microscaling Formats 1.0 (2023): scales are powers of two, E8M0.
    "mxfp4": ("fp4", "g32"),
    "mxfp4_a4": ("fp4_a4", "g32"),
    "mxfp8": ("fp8_e4m3", "g32"),
    "mxfp8_a16": ("fp8_e4m3_a16", "g32"),
    # DeepSeek-V3 (arXiv 2412.19437, 3.3).
    "fp8_block": ("fp8_e4m3", "b128"),
}
"""What the field calls some bits schemes together with their groups: labels of both, by name."""


def _candidates() -> list[str]:
    return ["2", "3", "4", "8", "16"]


def _float16() -> NumberFormat:
    return NumberFormat(type=NumberType.bfloat, num_bits=16)


@dataclass
class Bits:
    """The number formats of a recipe's weights and of the activations they meet.

    With a budget (``average``, ``bytes``, ``active_bytes``) every layer gets a format of its own
    out of ``candidates``, the narrower the less rounding is measured to harm it.
    """

    weight: NumberFormat = field(default_factory=NumberFormat)
    activation: NumberFormat = field(default_factory=_float16)
    average: Optional[float] = bounded(None, above=True, most=64)
    """Budget: average bits per weight of the quantized layers, without scales."""
    bytes: Optional[int] = bounded(None, least=1, most=BYTES)
    """Budget: total size of the checkpoint's tensors, in bytes."""
    active_bytes: Optional[int] = bounded(None, least=1, most=BYTES)
    """Budget of a mixture of experts, alone or beside ``bytes``: bytes that one generated token
    reads. Those are all tensors, of routed experts the share that a token meets; an input embedding
    that is not the head too is left out, as one row of it is read."""
    candidates: list[str] = bounded(factory=_candidates, filled=True)
    """Formats to choose from: bits schemes (``w4a16``, ``nvfp4``, ``fp8_e4m3``), with their group
    size where it is not the recipe's or the scheme's own (``w4a16-g32``). ``4`` is short for
    ``w4a16``; ``16`` leaves a layer unquantized. With ``method=gguf`` they are llama.cpp's types
    (``Q4_K``, ``IQ4_NL``); left as they are, the usual ones that fit."""

    @property
    def is_auto(self) -> bool:
        """True when layers get widths of their own."""
        return any(one is not None for one in (self.average, self.bytes, self.active_bytes))

    @classmethod
    def named(cls, name: str) -> "Bits | None":
        """The scheme that a label or a standard name means; ``None`` where it is neither.

        ``w4a8``, ``w4a_fp8_e4m3``, ``nf4``, ``fp8_e4m3_a16``, ``fp4_a4``, ``bf16``; of standard
        names (``nvfp4``) the groups are left out. ``4`` is short for ``w4a16``.
        """
        label, _ = STANDARD_NAMES.get(name, (f"w{name}a16" if name.isdigit() else name, ""))
        if match := re.fullmatch(r"w(\d+)a(\d+)", label):
            kind = NumberType.bfloat if match[2] == "16" else NumberType.int
            activation = NumberFormat(kind, int(match[2]))
            found = cls(NumberFormat(NumberType.int, int(match[1])), activation)
        elif match := re.fullmatch(r"(?:w(\d+)a_)?(\w+?)(?:_a(4|16))?", label):
            number = _number_named(match[2])
            if number is None:
                return None
            weight = NumberFormat(NumberType.int, int(match[1])) if match[1] else number
            wide = match[3] == "16" or (not match[1] and number.num_bits == 4 and not match[3])
            found = cls(weight, _float16() if wide else number)
        else:
            return None
        return found if found.label == label else None

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        if self.is_auto:
            reason = "has a budget: each of bits.candidates says what its weights and inputs are"
            return {"weight": reason, "activation": reason}
        return {"candidates": "has no budget, so that all layers get one format"}

    @property
    def is_integer_weights_alone(self) -> bool:
        """True when integer weights of one width meet activations of 16 bits."""
        whole = self.weight.type is NumberType.int and not self.is_auto
        return whole and self.activation.num_bits == 16

    @property
    def has_plain_candidates(self) -> bool:
        """True when a budget chooses among integer weights alone, all in the recipe's groups."""
        found = [Bits.named(name) for name in self.candidates]
        return self.is_auto and all(
            one is not None and (one.is_integer_weights_alone or one.weight.num_bits == 16)
            for one in found
        )

    @property
    def narrowest_bits(self) -> int:
        """Bits of the narrowest weights."""
        if not self.is_auto:
            return self.weight.num_bits
        return min((width for name in self.candidates if (width := width_of(name))), default=16)

    @property
    def narrowest_activation_bits(self) -> int:
        """Bits of the narrowest activations; 16 where none are rounded."""
        widths = [one.activation.num_bits for one in self._schemes] if self.is_auto else []
        return min(widths, default=16) if self.is_auto else self.activation.num_bits

    @property
    def _schemes(self) -> "list[Bits]":
        stems = (name.partition("-")[0] for name in self.candidates)
        return [one for stem in stems if (one := Bits.named(stem)) is not None]

    @property
    def quantizes_activations(self) -> bool:
        """True when activations are rounded to fewer than 16 bits as well, somewhere at least."""
        return self.narrowest_activation_bits < 16

    @property
    def label(self) -> str:
        """Short name derived from the values (``w4a16``, ``nf4``, ``fp8_e4m3``, ``bf16``).

        It is derived, never stored, so that ``bits=w4a16 bits.weight.num_bits=3`` is
        called ``w3a16``. With a budget it is that: ``auto3.5``, ``auto90MB``, and
        ``auto90MB+60MBactive`` with two.
        """
        return self._budget_label if self.is_auto else self._formats_label

    @property
    def _budget_label(self) -> str:
        average = "" if self.average is None else f"{self.average:g}"
        size = "" if self.bytes is None else f"{self.bytes / 1e6:g}MB"
        active = "" if self.active_bytes is None else f"{self.active_bytes / 1e6:g}MBactive"
        return f"auto{'+'.join(filter(None, (average, size, active)))}"

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


def width_of(candidate: str) -> int | None:
    """Bits of a candidate's weights, scales not counted; ``None`` where its name has no number."""
    scheme = Bits.named(candidate.partition("-")[0])
    if scheme is not None:
        return scheme.weight.num_bits
    digits = re.search(r"\d+", candidate)
    return int(digits[0]) if digits else None


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


def _number_named(label: str) -> NumberFormat | None:
    """The inverse of ``_format_label``."""
    match = re.fullmatch(r"(int|bf|nf|fp)(\d+)(?:_e(\d+)m\d+)?", label)
    if match is None:
        return None
    kinds = {
        "int": NumberType.int,
        "bf": NumberType.bfloat,
        "nf": NumberType.normal_float,
        "fp": NumberType.float,
    }
    exponent = int(match[3]) if match[3] else None
    if match[1] == "fp" and match[2] == "8" and exponent is None:
        return None
    return NumberFormat(kinds[match[1]], int(match[2]), exponent)
