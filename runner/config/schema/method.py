"""The quantization method. Its own options are declared with its code in runner.methods."""

from dataclasses import dataclass
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded
from runner.config.schema.bits import Bits
from runner.config.schema.engine import Dtype
from runner.config.schema.group_size import GroupSize
from runner.config.schema.standard_formats import standard_name

UNQUANTIZED_BITS = 16


def _lm_head() -> list[str]:
    return ["lm_head"]


@dataclass
class Method:
    """Fields of every method."""

    name: str = MISSING
    backend: str = MISSING
    """Library that implements the method; it runs in an environment that provides it."""
    environment: Optional[str] = None
    """Name of that environment; by default the first that provides the backend."""
    ignore: list[str] = bounded(factory=_lm_head, prose=True)
    """Linear layers to leave unquantized: names, or ``re:`` and a regular expression."""
    rounding_dtype: Dtype = Dtype.auto
    """Arithmetic for rounding weights, for forward passes of calibration text, and for
    sensitivities. ``auto``: float32; on a GPU without the memory for it, the model's own type. Part
    of the recipe: another type makes another checkpoint."""

    keep: list[str] = bounded(factory=list, prose=True)
    """Layers to keep at a higher precision: names, suffixes, or ``re:`` and a regular expression.
    Layers that engines fuse with one of them (q/k/v, gate/up) are kept as well."""
    keep_bits: Optional[int] = bounded(None, least=1, most=64)
    """Bits of kept layers; by default they are not quantized."""
    keep_most_sensitive: int = 0
    """Number of additional layers to keep: those with the highest sensitivity to the recipe's
    rounding, by stage ``sensitivity``. Fused layers count as one."""

    @property
    def keeps_layers(self) -> bool:
        """True when some layers are kept at a higher precision."""
        return bool(self.keep) or self.keep_most_sensitive > 0

    @property
    def is_identity(self) -> bool:
        """True when weights stay what they are, but for their float type."""
        return False

    def rounds(self, bits: Bits) -> bool:
        """True when weights end in fewer bits than a 16-bit float has."""
        return bits.weight.num_bits < UNQUANTIZED_BITS

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        return {} if self.keeps_layers else {"keep_bits": "keeps no layer at another width"}

    def scheme_label(self, bits: Bits, group_size: GroupSize) -> str:
        """Short name of the number formats that the method makes of ``bits``."""
        return f"{bits.label}-{group_size.label}"

    @property
    def variant(self) -> tuple[str, str] | None:
        """An option, with its value, that makes another kind of checkpoint through a backend."""
        return None

    @property
    def has_zero_points(self) -> bool:
        """True when its grid is set to be asymmetric, as far as plans and sensitivities know."""
        return False

    def rounds_with_zero_points(self, bits: Bits) -> bool:
        """True when what it makes of a bits scheme has zero points."""
        return self.has_zero_points

    @property
    def rotates_at_run_time(self) -> bool:
        """True when readers of the checkpoint have to rotate what goes into layers."""
        return False

    @property
    def solves_with_hessians(self) -> bool:
        """True when it inverts a Hessian that it sums over the calibration text."""
        return False

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str | None:
        """What plans call the format that is stored.

        ``None``: integers of the recipe's own width and groups.
        """
        if bits.is_integer_weights_alone:
            return None
        grouped = f"-{group_size.label}" if group_size.is_sized else ""
        if bits.is_auto:
            # Plans count budgets with the usual candidates, whose groups are the recipe's.
            zero_points = "-asym" if self.rounds_with_zero_points(bits) else ""
            return (
                f"{bits.label}{grouped}{zero_points}{'' if bits.has_plain_candidates else '+own'}"
            )
        return standard_name(bits, group_size) or f"{bits.label}{grouped}"

    def misfit(self, bits: Bits, group_size: GroupSize, device: str) -> tuple[str, str] | None:
        """Why its options cannot make the formats, and the settings that can; ``None`` if they can.

        Args:
            bits: A scheme that the backend supports.
            group_size: A granularity that the backend supports, with some scheme at least.
            device: Where the recipe is made: ``cpu`` or ``cuda``.
        """
        return None

    def decides_width(self) -> tuple[str, int] | None:
        """The field that decides what is made, whatever ``bits`` says, and the width it makes."""
        return None
