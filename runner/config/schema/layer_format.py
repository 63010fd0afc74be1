"""Formats that layers of one checkpoint may have: bits and groups under one name."""

from dataclasses import dataclass

from runner.config.schema.bits import STANDARD_NAMES, Bits
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method

UNQUANTIZED = "16"
"""The candidate that leaves a layer as it is."""
_UNQUANTIZED_NAMES = (UNQUANTIZED, "bf16")
_OWN_GROUPS = {"w8a8": "per_channel", "fp8_e4m3": "per_channel", "fp8_e4m3_a16": "per_channel"}
"""Groups of schemes that do without the recipe's, as their files in ``conf/bits`` have them."""


@dataclass(frozen=True)
class LayerFormat:
    """What a layer's weights are stored in, and its inputs rounded to."""

    bits: Bits
    group_size: GroupSize

    @classmethod
    def named(cls, name: str, usual: GroupSize) -> "LayerFormat | None":
        """What a candidate means: ``w4a16``, ``w4a16-g32``, ``nvfp4``, or ``4``.

        Args:
            name: Of a bits scheme, with a group size behind a dash or without.
            usual: The recipe's group size, for schemes that have none of their own.

        Returns:
            ``None`` where it is no such name, and for the candidates that leave a layer alone.
        """
        if is_unquantized(name):
            return None
        stem, dash, group = name.partition("-")
        bits = scheme_of(name)
        if bits is None:
            return None
        if not dash:
            _, group = STANDARD_NAMES.get(stem, ("", _OWN_GROUPS.get(stem, "")))
        group_size = GroupSize.named(group) if dash or group else usual
        return None if group_size is None else cls(bits, group_size)

    @property
    def label(self) -> str:
        """Named as recipes are: ``w4a16-g64``, ``fp4-g16``."""
        return f"{self.bits.label}-{self.group_size.label}"


def scheme_of(candidate: str) -> Bits | None:
    """The bits scheme of a candidate, whatever its groups; ``None`` where it names none."""
    return Bits.named(candidate.partition("-")[0])


def formats_of(bits: Bits, group_size: GroupSize, method: Method | None) -> list[LayerFormat]:
    """All formats that a recipe's layers may get, but for those that stay as they are.

    Candidates that name no bits scheme are left out.
    """
    names = bits.candidates if bits.is_auto else []
    kept = [str(method.keep_bits)] if method is not None and method.keeps_layers else []
    named = [LayerFormat.named(name, group_size) for name in [*names, *kept]]
    found = [one for one in named if one is not None]
    return found if bits.is_auto else [LayerFormat(bits, group_size), *found]


def is_unquantized(name: str) -> bool:
    """Whether a candidate leaves a layer as it is."""
    return name in _UNQUANTIZED_NAMES
