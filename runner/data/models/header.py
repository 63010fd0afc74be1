"""What a file's header declares for one tensor."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Header:
    """One tensor: its type by the file format's name (``BF16``, ``Q4_K``), and its size."""

    dtype: str
    elements: int
    bytes: int
    shape: tuple[int, ...] = ()
