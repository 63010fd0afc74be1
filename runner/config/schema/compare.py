"""Settings of stage ``compare``."""

from dataclasses import dataclass
from typing import Optional

from runner.config.bounds import bounded


@dataclass
class Compare:
    """Two sweeps (``SWEEP``) or two runs (``SWEEP/RUN``; the run's number is enough)."""

    a: Optional[str] = bounded(None, shortened=True)
    b: Optional[str] = bounded(None, shortened=True)
    allow_different_dtypes: bool = False
    """Compare quality across different arithmetic too (``eval.dtype``), to see its effect."""
