"""Number formats that a plan compares: stored bits, and the arithmetic of their products."""

import functools
import re
from dataclasses import dataclass, replace

from runner.errors import UsageError
from runner.planning.budgets import CANDIDATES, SCALE_BITS, Budget
from runner.planning.gguf_mixes import MIXES, Mix
from runner.planning.linears import Linear
from runner.planning.model_shape import Shape

EXPERTS = "experts"
"""Part of a model that its routed experts are."""
_ONLY_EXPERTS = "-experts"
_COVERS = {_ONLY_EXPERTS: (EXPERTS,), "-mlp": (EXPERTS, "shared_experts", "mlp")}
"""Parts of a model that labels with such an end are about: the others are in 16 bits, or in what
follows a plus sign."""
_BLOCK_SCALE_BITS = 8
_K_BLOCK = 256
PLANNED_WIDTHS = range(2, 9)
"""Bits of integer weights."""


@dataclass(frozen=True)
class Format:
    """How the weights of linear layers are stored and multiplied."""

    label: str
    weight_bits: float
    """Bits of a weight itself; for formats with blocks of their own the block's, all included."""
    arithmetic: str
    """What matrix units are asked for: ``fp32``, ``fp16``, ``bf16``, ``fp8``, ``int8``, ``fp4``."""
    group: int | None = None
    """Weights that share a scale; ``None`` where an output channel does, or none is needed."""
    scale_bits: float = 0.0
    zero_bits: float = 0.0
    embedding_bits: float = 16.0
    head_bits: float = 16.0
    fallback_bits: float | None = None
    """Bits of layers whose inputs are no multiple of 256 (llama.cpp's K types)."""
    scheme: str | None = None
    """Name without groups and parts, by which figures are published, if not its own."""
    stored_as: str | None = None
    """Label of the bits scheme whose checkpoints are so, if not its own; ``gguf``."""
    outliers_apart: bool = False
    """Whether activations far larger than the rest are computed in 16 bits."""
    bandwidth_share: float | None = None
    """Published part of a device's bandwidth that its own kernels reach, where it is known."""
    bandwidth_source: str = ""
    block: int | None = None
    """Side of the square of weights that share a scale, instead of a group."""
    covers: tuple[str, ...] | None = None
    """Parts of the model whose linear layers are stored so; ``None``: all."""
    rest: "Format | None" = None
    """How the others are stored; ``None``: in 16 bits."""
    schemes: tuple[str, ...] = ()
    """Bits schemes that layers have one each of, where a budget decides which."""
    budget: Budget | None = None
    """The budget; ``weight_bits`` is what it leaves, and is of no layer in particular."""

    @property
    def prior_bits(self) -> int:
        """16, 8 or 4: the class of kernels whose published efficiency applies."""
        return 16 if self.weight_bits >= 16 else 8 if self.weight_bits > 6.6 else 4

    @property
    def quantizes_activations(self) -> bool:
        """True when products run in fewer than 16 bits."""
        return self.arithmetic in ("int8", "fp8", "fp4")

    @property
    def has_float_blocks(self) -> bool:
        """Whether its scales are of blocks of floats, which kernels for experts pad."""
        return self.block is not None or (
            self.group is not None and self.scale_bits == _BLOCK_SCALE_BITS
        )

    def problem_with(self, shape: Shape) -> str | None:
        """Why a model cannot be stored so; ``None`` when it can."""
        if self.covers == (EXPERTS,) and not shape.experts:
            dense = self.label.split("+")[0].removesuffix(_ONLY_EXPERTS)
            return f"{self.label} is of experts, and the model has none: use {dense}"
        return None

    def covers_part(self, part: str) -> bool:
        """Whether linear layers of a part of the model are stored so."""
        return self.covers is None or part in self.covers

    def of(self, linear: Linear) -> "Format":
        """How certain linear layers are stored: so, or as the rest is."""
        if linear.kept:
            return _PLAIN
        return self if self.covers_part(linear.part) else self.rest or _PLAIN

    def bits_of(self, linear: Linear) -> float:
        """Bits of certain linear layers' weights, scales and zero points included."""
        if (own := self.of(linear)) is not self:
            return 16.0 * linear.weights if own is _PLAIN else own.bits_of(linear)
        if self.fallback_bits is not None:
            whole = linear.inputs % _K_BLOCK == 0
            return linear.weights * (self.weight_bits if whole else self.fallback_bits)
        shared = self.block**2 if self.block else self.group or linear.inputs
        return linear.weights * (self.weight_bits + (self.scale_bits + self.zero_bits) / shared)

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - formats are few and live long
    def linear_bits(self, shape: Shape) -> float:
        """Bits of all linear layers' weights, scales and zero points included."""
        return sum(self.bits_of(linear) for linear in shape.linears if not linear.kept)

    @functools.lru_cache(maxsize=1024)  # noqa: B019
    def _routed_bits(self, shape: Shape) -> float:
        return sum(self.bits_of(linear) for linear in shape.linears if linear.routed)

    def bits_per_weight(self, shape: Shape) -> float:
        """Stored bits per weight of the linear layers."""
        return self.linear_bits(shape) / shape.linear_weights

    def stored_bytes(self, shape: Shape) -> float:
        """Bytes of the whole model: embeddings, head and norms stay in 16 bits."""
        tables = shape.embedding_weights * self.head_bits
        if not shape.tied:
            tables += shape.embedding_weights * self.embedding_bits
        rest = shape.other_weights * max(16.0, self.head_bits if self.weight_bits > 16 else 16.0)
        return (self.linear_bits(shape) + tables + rest) / 8

    def streamed_bytes(self, shape: Shape, batch: float = 1.0) -> float:
        """Bytes of weights that one decode step reads.

        The input embedding is a gather of a few rows; of routed experts those are read that
        some token of the batch has chosen.
        """
        linear = self.linear_bits(shape)
        if shape.routed_weights:
            linear -= self._routed_bits(shape) * (1.0 - shape.routed_share_touched(batch))
        return (linear + shape.embedding_weights * self.head_bits) / 8


def _of_mix(mix: Mix) -> Format:
    """A GGUF file, whose weights llama.cpp multiplies in 16 bits as plans count it."""
    return Format(
        mix.label,
        mix.blocks,
        "bf16",
        embedding_bits=mix.embedding,
        head_bits=mix.head,
        fallback_bits=mix.fallback,
        stored_as="gguf",
    )


_PLAIN = Format("bf16", 16, "bf16")
_NAMED = {
    fmt.label: fmt
    for fmt in (
        _PLAIN,
        replace(_PLAIN, label="fp16", arithmetic="fp16"),
        Format("fp32", 32, "fp32", embedding_bits=32, head_bits=32),
        Format("w8a8", 8, "int8", scale_bits=SCALE_BITS),
        Format(
            "llm_int8",
            8,
            "int8",
            scale_bits=SCALE_BITS,
            outliers_apart=True,
            bandwidth_share=0.07,
            bandwidth_source="prior: 154.6 against 32.9 ms, RTX 3090",
        ),
        Format("fp8_e4m3", 8, "fp8", scale_bits=SCALE_BITS),
        Format("fp8_e4m3_a16", 8, "bf16", scale_bits=SCALE_BITS),
        # DeepSeek-V3 (arXiv 2412.19437, 3.3.2): a scale in fp32 for 128 x 128 weights.
        Format("fp8_block", 8, "fp8", scale_bits=32, block=128, stored_as="fp8_e4m3"),
        # QLoRA (arXiv 2305.14314): fp32 scales for blocks of 64, or 8 bits and 32 for 256 of them.
        Format("nf4", 4, "bf16", 64, scale_bits=32),
        Format("nf4-dq", 4, "bf16", 64, scale_bits=8 + 32 / 256, stored_as="nf4"),
        Format("mxfp4", 4, "bf16", 32, scale_bits=_BLOCK_SCALE_BITS, stored_as="fp4"),
        Format("nvfp4", 4, "bf16", 16, scale_bits=_BLOCK_SCALE_BITS, stored_as="fp4"),
        Format("mxfp4_a4", 4, "fp4", 32, scale_bits=_BLOCK_SCALE_BITS, stored_as="fp4_a4"),
        Format("nvfp4_a4", 4, "fp4", 16, scale_bits=_BLOCK_SCALE_BITS, stored_as="fp4_a4"),
        Format("mxfp8", 8, "fp8", 32, scale_bits=_BLOCK_SCALE_BITS, stored_as="fp8_e4m3"),
        Format("mxfp8_a16", 8, "bf16", 32, scale_bits=_BLOCK_SCALE_BITS, stored_as="fp8_e4m3_a16"),
        *map(_of_mix, MIXES),
    )
}
_WIDE_ZEROS = "-asym16"
"""End of labels of formats whose zero points are floats of 16 bits: HQQ's, and torchao's int4."""
_INTEGER = re.compile(
    r"(?P<base>w(?P<bits>[2-8])a16)(-(g(?P<group>\d+)|per_channel))?(?P<asym>-asym(?:16)?)?"
)
_NARROW = re.compile(r"(?P<base>w4a(?P<by>8|_fp8_e4m3))(-(g(?P<group>\d+)|per_channel))?")
"""4-bit integers that meet activations of 8 bits."""


def find_format(label: str, shape: Shape | None = None) -> Format:
    """The format of a label: ``bf16``, ``w4a16-g128``, ``mxfp4-experts``, ``nvfp4-mlp+mxfp8``.

    Args:
        label: What it is called; or that of a budget, ``auto4.5-g64``.
        shape: Of the model, without which a budget of bytes says nothing.

    Raises:
        UsageError: There is no such format, or the model has none of such a size.
    """
    if (budget := Budget.named(label)) is not None:
        return _of_budget(budget, shape)
    first, plus, rest = label.partition("+")
    for suffix, parts in _COVERS.items():
        if first.endswith(suffix):
            inner = find_format(first.removesuffix(suffix))
            return _of_parts(inner, label, parts, find_format(rest) if plus else None)
    if label in _NAMED:
        return _NAMED[label]
    if narrow := _NARROW.fullmatch(label):
        return _narrow(label, narrow)
    match = _INTEGER.fullmatch(label)
    if match is None or (match["group"] and not int(match["group"])):
        raise UsageError(_unknown(label))
    group = int(match["group"]) if match["group"] else None
    plain = integer_format(int(match["bits"]), group, bool(match["asym"]))
    zero_bits = float(SCALE_BITS) if match["asym"] == _WIDE_ZEROS else plain.zero_bits
    return replace(plain, label=label, zero_bits=zero_bits)


def integer_format(bits: int, group: int | None, zero_points: bool) -> Format:
    """Integer weights that are multiplied in 16 bits.

    Args:
        bits: Of a weight.
        group: Weights that share a scale; ``None`` where an output channel does.
        zero_points: Whether scales have zero points beside them, which are as wide as weights.
    """
    scheme = f"w{bits}a16"
    label = f"{scheme}-{f'g{group}' if group else 'per_channel'}{'-asym' if zero_points else ''}"
    zero = float(bits) if zero_points else 0.0
    return Format(label, bits, "bf16", group, scale_bits=SCALE_BITS, zero_bits=zero, scheme=scheme)


def _narrow(label: str, match: re.Match[str]) -> Format:
    """4-bit integers, with the arithmetic of the activations that they meet."""
    group = int(match["group"]) if match["group"] else None
    arithmetic = "int8" if match["by"] == "8" else "fp8"
    return Format(label, 4, arithmetic, group, scale_bits=SCALE_BITS, scheme=match["base"])


def _of_budget(budget: Budget, shape: Shape | None) -> Format:
    """What layers that get formats of their own have in the mean."""
    widths = budget.widths(shape)

    def of(width: float) -> Format:
        if budget.is_gguf:
            tables = widths.others or width
            mix = Mix(budget.label, width, tables, tables, width)
            return replace(_of_mix(mix), budget=budget)
        return Format(
            budget.label,
            width,
            "bf16",
            budget.group,
            scale_bits=SCALE_BITS,
            zero_bits=width if budget.has_zero_points else 0.0,
            schemes=CANDIDATES,
            budget=budget,
        )

    if widths.experts == widths.others:
        return of(widths.experts)
    rest = None if widths.others is None else of(widths.others)
    return replace(of(widths.experts), covers=(EXPERTS,), rest=rest)


def _of_parts(fmt: Format, label: str, parts: tuple[str, ...], rest: Format | None) -> Format:
    """The format of a model some of whose parts alone are quantized so."""
    if fmt.weight_bits >= _PLAIN.weight_bits or fmt.fallback_bits is not None:
        raise UsageError(
            f"plan.recipes: {label}: no checkpoint has {fmt.label} in some of its parts alone; "
            f"try {fmt.label}, or w4a16-g32-experts or mxfp4-experts"
        )
    return replace(
        fmt,
        label=label,
        covers=parts,
        rest=rest,
        scheme=fmt.scheme or fmt.label,
        stored_as=fmt.stored_as or fmt.scheme or fmt.label,
    )


def _unknown(label: str) -> str:
    known = ", ".join(_NAMED)
    if re.fullmatch(r"w4a4\S*|int4", label):
        return (
            f"plan.recipes: {label} needs 4-bit integer products, which no engine here is measured "
            "with and Hopper and Blackwell only emulate; try w4a8-g128 or w4a16-g128 (4-bit "
            "weights, products in 16 bits)"
        )
    return (
        f"plan.recipes: there is no {label}; it is one of {known}, or like w4a16-g128, "
        "w4a16-g64-asym, w8a16-per_channel, mxfp4-experts, or a budget: auto4.5-g64, auto90GB-g64, "
        "auto90GB+20GBactive-g64, gguf_auto5, gguf_auto90GB"
    )
