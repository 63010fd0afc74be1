"""What stage ``report`` looks at."""

from dataclasses import dataclass

from runner.config.bounds import bounded


@dataclass
class Report:
    """One answer over several sweeps; ``sweep=ID`` asks for one alone."""

    sweeps: list[str] = bounded(factory=list, shortened=True)
    """``SWEEP`` or ``SWEEP/RUN``; a beginning is enough where it is unique, ``latest`` is known."""
