"""The verdict of validation on a configuration."""

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How bad it is."""

    warning = "warning"
    illegal = "illegal"


@dataclass(frozen=True)
class Verdict:
    """One finding: what is wrong, why, and the nearest choice that is right."""

    severity: Severity
    reason: str
    nearest: str | None = None

    def __str__(self) -> str:
        return f"{self.reason}; try {self.nearest}" if self.nearest else self.reason


def illegal(reason: str, nearest: str | None = None) -> Verdict:
    """A combination that cannot be carried out."""
    return Verdict(Severity.illegal, reason, nearest)


def warning(reason: str, nearest: str | None = None) -> Verdict:
    """A combination that can be carried out but probably not with the result hoped for."""
    return Verdict(Severity.warning, reason, nearest)
