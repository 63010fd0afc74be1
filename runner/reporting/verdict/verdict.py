"""What an answer begins with: the recipe to take, or that none qualifies."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What can be said."""

    recipe = "recipe"
    """A quantized recipe is taken."""
    unquantized = "unquantized"
    """The unquantized model is: it meets the limits, and no recipe does or is shown to be better
    by the goal."""
    none = "none"
    """Nothing meets the limits."""
    unknown = "unknown"
    """Nothing was measured that the goal could be judged by."""


@dataclass(frozen=True)
class Named:
    """A row, as a verdict names it."""

    recipe: str
    engine: str
    row: int
    """Its number among the answer's rows."""
    run: str | None
    """Directory of its record."""
    figures: dict[str, str]
    """What was measured of it, in words with units and 95% intervals, by name."""
    checkpoint: str | None
    """Path of the checkpoint; ``None`` where it is not there."""
    checkpoint_key: str | None
    serve: str | None
    """The command that serves it."""


@dataclass(frozen=True)
class RuledOut:
    """A row that does not meet the limits."""

    recipe: str
    engine: str
    row: int
    limits: list[str]
    """The fields of ``decide`` that it does not meet, or is not shown to."""
    why: str


@dataclass(frozen=True)
class Tie:
    """Recipes that a measure does not tell from the one which is best by it."""

    measure: str
    """``perplexity``, ``kl_divergence`` or ``task_accuracy``."""
    best: str
    alike: list[str]
    """The others."""
    needed: dict[str, int | None] = field(default_factory=dict)
    """How many independent units would tell each from the best at the differences measured;
    ``None``: no amount is known to."""
    unit: str = "windows"


@dataclass(frozen=True)
class Verdict:
    """The verdict on the rows whose quality compares: of one model, text and protocol."""

    scope: str
    """The model, and what sets the scope apart where there are several."""
    model: str
    goal: str
    limits: dict[str, Any]
    """By field of ``decide``: those set, and those that are assumed."""
    assumed: list[str]
    """The fields among them that nobody set."""
    outcome: Outcome
    headline: str
    """One sentence without markup."""
    reasons: list[str]
    """Sentences, the most important first."""
    take: Named | None = None
    runner_up: Named | None = None
    nearest: RuledOut | None = None
    """What comes closest to the limits, where no recipe meets them."""
    ruled_out: list[RuledOut] = field(default_factory=list)
    ties: list[Tie] = field(default_factory=list)
