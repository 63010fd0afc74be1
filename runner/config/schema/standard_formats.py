"""Names that the field has for some bits schemes together with their groups."""

from runner.config.schema.bits import STANDARD_NAMES, Bits
from runner.config.schema.group_size import GroupSize

_NAMES = {labels: name for name, labels in STANDARD_NAMES.items()}
"""By the labels of bits and group size; ``conf/bits`` has each under its name."""


def standard_name(bits: Bits, group_size: GroupSize) -> str | None:
    """What the field calls a format; ``None`` where bits and groups say it best."""
    return _NAMES.get((bits.label, group_size.label))
