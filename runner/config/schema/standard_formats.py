"""Names that the field has for some bits schemes together with their groups."""

from runner.config.schema.bits import Bits
from runner.config.schema.group_size import GroupSize

_NAMES = {
    # NVIDIA, "Pretraining Large Language Models with NVFP4" (arXiv 2509.25149): scales in E4M3.
    ("fp4", "g16"): "nvfp4",
    ("fp4_a4", "g16"): "nvfp4_a4",
    # OCP Microscaling Formats 1.0 (2023): scales are powers of two, E8M0.
    ("fp4", "g32"): "mxfp4",
    ("fp4_a4", "g32"): "mxfp4_a4",
    ("fp8_e4m3", "g32"): "mxfp8",
    ("fp8_e4m3_a16", "g32"): "mxfp8_a16",
    # DeepSeek-V3 (arXiv 2412.19437, 3.3).
    ("fp8_e4m3", "b128"): "fp8_block",
}
"""By the labels of bits and group size; ``conf/bits`` has each under its name."""


def standard_name(bits: Bits, group_size: GroupSize) -> str | None:
    """What the field calls a format; ``None`` where bits and groups say it best."""
    return _NAMES.get((bits.label, group_size.label))
