"""Settings of stage ``report``."""

from dataclasses import dataclass

from runner.config.bounds import bounded


@dataclass
class Report:
    """One report over several sweeps; for a single one use ``sweep=ID``."""

    sweeps: list[str] = bounded(factory=list, shortened=True)
    """``SWEEP`` or ``SWEEP/RUN``; an unambiguous prefix is enough, and ``latest`` is the newest
    sweep."""
