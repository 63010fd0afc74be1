"""Families of measurements on the same text, whose differences hold together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from runner.evaluation.metrics.simultaneous import pairwise_widening
from runner.reporting.quality.answered import Answered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class Family:
    """Measurements that pair with each other, whose differences are to hold together."""

    members: frozenset[int]
    """Their numbers."""
    widening: float
    """Of the interval of any two's difference."""


def families(
    several: Sequence[T],
    number: Callable[[T], int],
    pairs: Callable[[T, T], bool],
    residuals: "Callable[[T], NDArray[np.float64] | None]",
) -> list[Family]:
    """Group what pairs, and find how much the intervals within each group are to be widened.

    Args:
        several: Measurements, each once.
        number: Tells them apart.
        pairs: Whether two are of the same text or items.
        residuals: What one is in each independent part of those; ``None`` where not recorded.
    """
    import numpy as np

    groups: list[list[T]] = []
    for one in several:
        group = next((group for group in groups if pairs(group[0], one)), None)
        if group is None:
            groups.append(group := [])
        group.append(one)
    families = []
    for group in groups:
        rows = [row for one in group if (row := residuals(one)) is not None]
        alike = len({len(row) for row in rows}) == 1
        widening = pairwise_widening(np.array(rows)) if alike and len(rows) > 2 else 1.0
        families.append(Family(frozenset(map(number, group)), widening))
    return families


def residuals(sums: "NDArray[np.float64]", sizes: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Of each cluster, from the mean a token; over draws their mean."""
    import numpy as np

    means: NDArray[np.float64] = sums.mean(axis=0)
    return np.asarray(means - means.sum() / sizes.sum() * sizes, np.float64)


def item_residuals(one: Answered) -> "NDArray[np.float64] | None":
    """Of each item, from its task's mean, every task counting the same."""
    import numpy as np

    parts = []
    for name in sorted(one.tasks):
        outcomes = one.tasks[name].outcomes
        if not outcomes:
            return None
        right = np.array([[float(digit) for digit in row] for row in outcomes]).mean(axis=0)
        parts.append((right - right.mean()) / len(right))
    return np.concatenate(parts)


def asked_alike(one: Answered, other: Answered) -> bool:
    """Whether both were asked the same items in the same arithmetic, of the same model."""

    def items(of: Answered) -> dict[str, Any]:
        return {name: task.items_sha256 for name, task in of.tasks.items()}

    return (one.base, one.arithmetic, items(one)) == (other.base, other.arithmetic, items(other))
