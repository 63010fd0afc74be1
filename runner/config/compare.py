"""What stage ``compare`` looks at."""

from dataclasses import dataclass
from typing import Optional


@dataclass
class Compare:
    """Two sweeps (``SWEEP``) or two runs (``SWEEP/RUN``; the run's number is enough)."""

    a: Optional[str] = None
    b: Optional[str] = None
    mix_arithmetic: bool = False
    """Compare quality of different arithmetic too (``eval.dtype``), to see what it does."""
