"""In which number formats keys and values are kept for the tokens that come."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Optional

from runner.config.bounds import bounded


class KvFormat(StrEnum):
    """Number format of stored keys or values."""

    auto = "auto"
    """As the engine does by itself: the type of the arithmetic, float16 in llama.cpp, or what the
    checkpoint says (``method.kv_cache``)."""
    fp16 = "fp16"
    bf16 = "bf16"
    fp8_e4m3 = "fp8_e4m3"
    """Cast without scales: numbers beyond 448 become 448."""
    fp8_e5m2 = "fp8_e5m2"
    int8 = "int8"
    """Whole numbers between a group's least and greatest value; see ``kv_cache.group_size``."""
    int4 = "int4"
    int2 = "int2"
    q8_0 = "q8_0"
    """llama.cpp's, as the others that follow: blocks of 32 numbers with a float16 scale."""
    q5_1 = "q5_1"
    """With a least value beside the scale, as ``q4_1``."""
    q5_0 = "q5_0"
    q4_1 = "q4_1"
    q4_0 = "q4_0"
    iq4_nl = "iq4_nl"
    """Sixteen values that are not evenly spaced."""

    @property
    def is_grouped(self) -> bool:
        """Whether groups of a size that can be chosen share a scale."""
        return self in _GROUPED

    def bits(self, group: int, wide: float = 16.0) -> float:
        """Bits of a stored number, its part of scales included.

        Args:
            group: Numbers that share a scale where that can be chosen.
            wide: Bits of the arithmetic's type: of ``auto``, of a scale and of a least value.
        """
        if self is KvFormat.auto:
            return wide
        return _BITS[self] + (2 * wide / group if self.is_grouped else 0)


USUAL_HEAD = 128
"""Numbers of a head where the model's are not known."""
_GROUPED = frozenset({KvFormat.int8, KvFormat.int4, KvFormat.int2})
_BITS = {
    KvFormat.fp16: 16.0,
    KvFormat.bf16: 16.0,
    KvFormat.fp8_e4m3: 8.0,
    KvFormat.fp8_e5m2: 8.0,
    KvFormat.int8: 8.0,
    KvFormat.int4: 4.0,
    KvFormat.int2: 2.0,
    KvFormat.q8_0: 8.5,
    KvFormat.q5_1: 6.0,
    KvFormat.q5_0: 5.5,
    KvFormat.q4_1: 5.0,
    KvFormat.q4_0: 4.5,
    KvFormat.iq4_nl: 4.5,
}
"""Of ggml's blocks with their scales (``ggml/src/ggml-common.h``)."""


@dataclass
class KvCache:
    """Keys and values of past tokens: what attention reads at every step."""

    key: KvFormat = KvFormat.auto
    """Of keys, which are stored with their positions (rotary embeddings) in all engines."""
    value: KvFormat = KvFormat.auto
    group_size: Optional[int] = bounded(None, least=1, most=2**16)
    """Consecutive numbers of a head that share a scale, for ``int8``, ``int4`` and ``int2``; the
    whole head by default."""

    @property
    def is_auto(self) -> bool:
        """Whether the engine decides."""
        return self == KvCache()

    @property
    def formats(self) -> tuple[KvFormat, ...]:
        """Of keys and of values."""
        return self.key, self.value

    @property
    def group(self) -> int | None:
        """``group_size`` where it has an effect."""
        return self.group_size if any(one.is_grouped for one in self.formats) else None

    @property
    def label(self) -> str:
        """Short name derived from the values: ``auto``, ``int4-g32``, ``k_q8_0-v_q4_0``."""
        same = self.key is self.value
        stem = self.key.value if same else f"k_{self.key.value}-v_{self.value.value}"
        return stem if self.group is None else f"{stem}-g{self.group}"

    def bits(self, head_width: int, wide: float = 16.0) -> float:
        """Bits of a stored number, on average over keys and values of the same width.

        Args:
            head_width: Numbers of a head's key.
            wide: Bits of the arithmetic's type.
        """
        group = self.group_size or head_width
        return sum(one.bits(group, wide) for one in self.formats) / 2

    def unread(self) -> dict[str, str]:
        """``group_size``, where nothing has groups of a size that can be chosen."""
        if any(one.is_grouped for one in self.formats):
            return {}
        return {"group_size": f"{self.label} has no groups, or groups of a fixed size"}
