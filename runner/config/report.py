"""What stage ``report`` looks at."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """One answer over several sweeps; ``sweep=ID`` asks for one alone."""

    sweeps: list[str] = field(default_factory=list)
    """``SWEEP`` or ``SWEEP/RUN``; a beginning is enough where it is unique, ``latest`` is known."""
