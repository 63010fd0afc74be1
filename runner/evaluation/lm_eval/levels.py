"""Chooses the levels of difficulty at which a loss can be seen."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class LevelScore:
    """Answers to the items of one level of a task."""

    level: int
    items: int
    right: int
    fits: bool = True
    """Whether the prompts fit the model's context: what was cut was not asked."""

    @property
    def share(self) -> float:
        """Of right answers."""
        return self.right / self.items


@dataclass
class Chosen:
    """Levels of a task that are asked."""

    levels: list[int]
    why_not: str | None
    """Why a loss can hardly be seen at them; ``None`` if it can."""


def choose_levels(pilot: Sequence[LevelScore], least: float, most: float) -> Chosen:
    """Levels at which the unquantized model is neither nearly always wrong nor nearly always right.

    Where there are none, the one whose share is nearest to the range.

    Args:
        pilot: The unquantized model's scores, from the lowest level on.
        least: Smallest share of right answers of a level that is asked.
        most: Largest one.
    """
    usable = [one for one in pilot if one.fits and one.items]
    if not usable:
        return Chosen([], "no level fits the model's context")
    between = [one.level for one in usable if least <= one.share <= most]
    if between:
        return Chosen(between, None)
    # Of several at the ceiling the hardest, of several at the floor the easiest.
    nearest = min(
        usable,
        key=lambda one: (
            max(least - one.share, one.share - most),
            one.level if one.share < least else -one.level,
        ),
    )
    where = "the floor" if nearest.share < least else "the ceiling"
    return Chosen(
        [nearest.level],
        f"the unquantized model is at {where} ({nearest.right} of {nearest.items} right at level "
        f"{nearest.level}): little of a loss would show",
    )
