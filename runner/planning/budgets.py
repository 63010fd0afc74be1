"""Budgets of ``bits=auto`` by name, and the bits that they leave for a model's layers.

Which layers get which format is measured, so that no plan knows it: all layers are counted alike,
but for a mixture's experts where two budgets tell them from the rest.
"""

import math
import re
from dataclasses import dataclass, replace

from runner.errors import UsageError
from runner.planning.model_shape import Shape

_NUMBER = r"\d+(?:\.\d+)?(?:e\+?\d+)?"
_TOTAL = rf"(?P<bytes>{_NUMBER})(?P<bytes_unit>MB|GB)"
_ACTIVE = rf"(?P<active>{_NUMBER})(?P<active_unit>MB|GB)active"
_SIZES = rf"{_TOTAL}(?:\+{_ACTIVE})?|{_ACTIVE.replace('<active', '<alone')}"
_GROUPS = r"(-(g(?P<group>[1-9]\d*)|per_channel))?(?P<asym>-asym)?"
_LABEL = re.compile(rf"(?P<gguf>gguf_)?auto(?:{_SIZES}|(?P<average>{_NUMBER})){_GROUPS}")
_UNITS = {"MB": 1_000_000, "GB": 1_000_000_000}
CANDIDATES = ("w2a16", "w3a16", "w4a16", "w8a16")
"""Bits schemes that layers are given one of, where they are not left alone: the usual ones."""
SCALE_BITS = 16
_NARROWEST = 2.0
_UNQUANTIZED = 16.0
_NARROWEST_TYPE = 2.0625
"""llama.cpp's IQ2_XXS, scales included."""
_WIDEST_TYPE = 8.5
"""Q8_0."""


@dataclass(frozen=True)
class Widths:
    """Bits of a weight in a model's layers, without scales; in GGUF files with them."""

    experts: float
    """Of routed experts."""
    others: float | None
    """Of all other layers; ``None`` where those stay in 16 bits."""


def _alike(width: float) -> Widths:
    """All layers counted alike."""
    return Widths(width, width)


@dataclass(frozen=True)
class Budget:
    """What a label says: ``auto4.5-g64``, ``auto90MB+30MBactive``, ``gguf_auto5``."""

    label: str
    is_gguf: bool
    """Whether llama.cpp's types are chosen, of embeddings too, instead of integers."""
    average: float | None
    """Bits of a weight: of linear layers without scales; in a GGUF file of all, scales too."""
    bytes: int | None
    active_bytes: int | None
    group: int | None
    """Weights that share a scale; ``None``: an output channel does."""
    has_zero_points: bool

    @classmethod
    def named(cls, label: str) -> "Budget | None":
        """The budget of a label; ``None`` where it is another format's."""
        match = _LABEL.fullmatch(label)
        if match is None or (match["gguf"] and "-" in label):
            return None

        def size(name: str) -> int | None:
            number = match[name]
            return round(float(number) * _UNITS[match[f"{name}_unit"]]) if number else None

        return cls(
            label,
            bool(match["gguf"]),
            float(match["average"]) if match["average"] else None,
            size("bytes"),
            size("active") or size("alone"),
            int(match["group"]) if match["group"] else None,
            bool(match["asym"]),
        )

    @property
    def is_of_active_bytes_alone(self) -> bool:
        """Whether it leaves open what the whole model takes."""
        return self.active_bytes is not None and self.bytes is None

    @property
    def words(self) -> list[str]:
        """Overrides of the runner's configuration that set it."""
        if self.average is not None:
            return ["bits=auto", f"bits.average={self.average:g}"]
        sizes = (("bytes", self.bytes), ("active_bytes", self.active_bytes))
        set_ones = [f"bits.{name}={size}" for name, size in sizes if size is not None]
        return ["bits=auto", "bits.average=null", *set_ones]

    def widths(self, shape: Shape | None) -> Widths:
        """Bits that it leaves for layers.

        Args:
            shape: Of the model; a budget in bits does without.

        Raises:
            UsageError: No model, or not this one, has such a budget.
        """
        if self.average is not None:
            self._require_bits(self.average)
            return _alike(self.average)
        if shape is None:
            raise UsageError(f"plan.recipes: {self.label} needs the model's dimensions")
        if self.active_bytes is not None and not shape.experts:
            raise UsageError(
                f"plan.recipes: {self.label}: a budget of active bytes is of experts, and the "
                "model has none: leave it out"
            )
        return _Room(self, shape).widths()

    def _require_bits(self, average: float) -> None:
        if average < self.least_bits:
            raise UsageError(
                f"plan.recipes: {self.label}: the narrowest formats have {self.least_bits:g} bits"
            )
        if average >= self.most_bits:
            raise self.all_left()

    def all_left(self) -> UsageError:
        """That it asks for no rounding."""
        widest = "q8_0" if self.is_gguf else "bf16"
        return UsageError(
            f"plan.recipes: {self.label} is no less than all has in {self.most_bits:g} bits: use "
            f"{widest}"
        )

    @property
    def least_bits(self) -> float:
        """Of the narrowest format that layers are given."""
        return _NARROWEST_TYPE if self.is_gguf else _NARROWEST

    @property
    def most_bits(self) -> float:
        """Of the widest."""
        return _WIDEST_TYPE if self.is_gguf else _UNQUANTIZED


@dataclass(frozen=True)
class _Layers:
    """Layers that are counted alike."""

    weights: float
    scales: float
    zero_points: bool

    def bits(self, width: float) -> float:
        """Of weights of a width, with their scales and zero points."""
        return width * self.numbers + self.scale_bits

    @property
    def numbers(self) -> float:
        """As wide as weights: those, and zero points."""
        return self.weights + (self.scales if self.zero_points else 0.0)

    @property
    def scale_bits(self) -> float:
        """Bits of scales."""
        return SCALE_BITS * self.scales

    def width(self, bits: float) -> float:
        """The inverse of ``bits``."""
        return (bits - self.scale_bits) / self.numbers

    def part(self, share: float) -> "_Layers":
        """What one token reads of them."""
        return replace(self, weights=share * self.weights, scales=share * self.scales)

    def with_others(self, others: "_Layers") -> "_Layers":
        """Both together."""
        return replace(
            self, weights=self.weights + others.weights, scales=self.scales + others.scales
        )


class _Room:
    """What a budget of bytes leaves for the layers of a model."""

    def __init__(self, budget: Budget, shape: Shape) -> None:
        self._budget = budget
        tables = shape.embedding_weights * (1 if shape.tied else 2)
        fixed = 16.0 * shape.other_weights
        self._fixed = fixed if budget.is_gguf else fixed + 16.0 * tables
        self._fixed_active = fixed if budget.is_gguf else fixed + 16.0 * shape.embedding_weights
        self._share = shape.experts_per_token / shape.experts if shape.experts else 1.0
        self._experts = self._layers(shape, routed=True)
        others = self._layers(shape, routed=False)
        head = shape.embedding_weights if budget.is_gguf else 0
        self._read = replace(others, weights=others.weights + head)
        """Of all but experts what each token reads: of an embedding by itself it is a row."""
        self._others = replace(others, weights=others.weights + (tables if budget.is_gguf else 0))

    def _layers(self, shape: Shape, *, routed: bool) -> _Layers:
        budget = self._budget
        own = [one for one in shape.linears if not one.kept and one.routed is routed]
        scales = sum(one.weights / (budget.group or one.inputs) for one in own)
        weights = sum(one.weights for one in own)
        return _Layers(weights, 0.0 if budget.is_gguf else scales, budget.has_zero_points)

    def widths(self) -> Widths:
        """Bits of weights.

        Raises:
            UsageError: The budget is too small, or leaves everything as it is.
        """
        budget = self._budget
        whole = self._experts.with_others(self._others)
        read = self._experts.part(self._share).with_others(self._read)
        total = active = math.inf
        if budget.bytes is not None:
            total = self._left(budget.bytes, self._fixed, whole, "")
        if budget.active_bytes is not None:
            active = self._left(budget.active_bytes, self._fixed_active, read, " for a token")
        most = budget.most_bits
        if total >= most * whole.weights and active >= most * read.weights:
            raise budget.all_left()
        if math.isinf(active):
            return _alike(whole.width(total))
        if total >= most * whole.weights:
            return _alike(read.width(active))
        return self._of_both(total, active)

    def _left(self, size: int, fixed: float, layers: _Layers, what: str) -> float:
        """Bits for some layers.

        Raises:
            UsageError: Too few.
        """
        left = 8.0 * size - fixed
        if left < (least := layers.bits(self._budget.least_bits)):
            raise UsageError(
                f"plan.recipes: {self._budget.label}: with the narrowest formats everywhere "
                f"{(least + fixed) / 8e6:.4g} MB are left{what}"
            )
        return left

    def _of_both(self, total: float, active: float) -> Widths:
        """Both budgets used up, as far as formats go: two equations, of which one may not bind."""
        experts, others, read, share = self._experts, self._others, self._read, self._share
        met = experts.part(share)
        least, most = self._budget.least_bits, self._budget.most_bits

        def within(layers: _Layers, width: float) -> float:
            return min(max(width, least), layers.width(most * layers.weights))

        left = total - experts.scale_bits - others.scale_bits
        left_read = active - met.scale_bits - read.scale_bits
        meeting = experts.numbers * read.numbers - met.numbers * others.numbers
        wide = within(experts, (left * read.numbers - left_read * others.numbers) / meeting)
        of_others = within(
            others,
            min(
                (left - experts.numbers * wide) / others.numbers,
                (left_read - met.numbers * wide) / read.numbers,
            ),
        )
        of_experts = within(
            experts,
            min(
                (left - others.numbers * of_others) / experts.numbers,
                (left_read - read.numbers * of_others) / met.numbers,
            ),
        )
        plain = of_others >= others.width(most * others.weights) and not self._budget.is_gguf
        return Widths(of_experts, None if plain else of_others)
