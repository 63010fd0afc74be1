"""A recipe's right answers as recorded, and how two recipes differ, item by item."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.evaluation.metrics.crossed import crossed_interval
from runner.evaluation.metrics.paired import mcnemar
from runner.evaluation.metrics.statistics import Interval
from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.pipeline.stages.tasks import TasksResult
from runner.reporting.quality.evaluated import seed_of
from runner.store.records import BASELINE, RunRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TaskScore:
    """One task's share of right answers, by its main metric."""

    value: float
    """Over several draws their mean."""
    items_sha256: str | None
    outcomes: tuple[str, ...]
    """``1`` or ``0`` an item, of each draw; empty in older records."""
    baseline: float | None
    half: float | None
    """Half of the 95% interval of the difference from the unquantized model, on these items."""


@dataclass(frozen=True)
class Answered:
    """The tasks that were named and have a share of right answers."""

    base: str | None
    """Fingerprint of the unquantized model."""
    draws: tuple[str, ...]
    tasks: dict[str, TaskScore]
    """By name and metric."""
    arithmetic: str = ""
    """Type of the forward passes; empty in older records."""

    @property
    def value(self) -> float:
        """The mean over tasks: every task counts the same."""
        return sum(task.value for task in self.tasks.values()) / len(self.tasks)


@dataclass(frozen=True)
class AccuracyDifference:
    """One recipe's mean share of right answers minus another's."""

    interval: Interval
    shown: bool
    """Whether it is more than chance: the interval does not hold zero, and with one draw on each
    side neither does McNemar's exact test (5%), since few changed answers make no bell curve."""
    p_value: float | None = None
    """McNemar's, where there is one draw on each side."""


def answered(record: RunRecord, subject: str = "recipe") -> Answered | None:
    """What a run's tasks say; ``None`` where none has a share of right answers."""
    result = record.result(TASKS, subject)
    # Against itself the unquantized model has lost nothing, and that is sure.
    itself = subject == BASELINE
    return None if result is None else answered_in(result, record, itself=itself)


def answered_in(result: TasksResult, record: RunRecord, *, itself: bool = False) -> Answered | None:
    """The same of one result of a run.

    Args:
        result: What was answered.
        record: The run's.
        itself: Whether it is the unquantized model's own.
    """
    tasks = {}
    for task in result.tasks:
        if (score := task.main) is not None and task.asked_for:
            change = score.change
            interval = None if change is None else change.delta_interval
            half = None if interval is None else (interval.high - interval.low) / 2
            tasks[f"{score.metric}/{task.task}"] = TaskScore(
                value=score.value,
                items_sha256=score.items_sha256,
                outcomes=(score.outcomes,) if score.outcomes else (),
                baseline=score.value if itself else change.baseline if change else None,
                half=0.0 if itself else half,
            )
    if not tasks:
        return None
    return Answered(record.model_fingerprint, (seed_of(record),), tasks, result.arithmetic)


def only(whole: Answered, names: Collection[str]) -> Answered:
    """Some of the tasks."""
    return replace(whole, tasks={name: whole.tasks[name] for name in names if name in whole.tasks})


def joined_answers(several: Sequence[Answered]) -> Answered | None:
    """Draws of one recipe as one; ``None`` where they were not asked the same."""
    first = several[0]
    tasks = {}
    for name, asked in first.tasks.items():
        all_ = [one.tasks.get(name) for one in several]
        same_items = [
            one for one in all_ if one is not None and one.items_sha256 == asked.items_sha256
        ]
        if len(same_items) < len(several):
            return None
        outcomes = tuple(row for one in same_items for row in one.outcomes)
        tasks[name] = TaskScore(
            value=sum(one.value for one in same_items) / len(same_items),
            items_sha256=asked.items_sha256,
            outcomes=outcomes if len(outcomes) == len(several) else (),
            baseline=asked.baseline,
            half=None,
        )
    draws = tuple(draw for one in several for draw in one.draws)
    return Answered(first.base, draws, tasks, first.arithmetic)


def accuracy_difference(
    one: Answered, other: Answered, *, allow_different_dtypes: bool = False
) -> AccuracyDifference | None:
    """Mean share of right answers of ``one`` minus ``other``'s; ``None`` where it is not known.

    Item by item where records have the items. In older ones each side's interval against the
    unquantized model bounds it: the half-width of a difference is no more than the sum of both.
    Tasks are independent of each other.
    """
    same = [(one.base, other.base)]
    same += [] if allow_different_dtypes else [(one.arithmetic, other.arithmetic)]
    if one.tasks.keys() != other.tasks.keys() or any(a and b and a != b for a, b in same):
        return None
    estimate, squares, lost, gained, exact = 0.0, 0.0, 0, 0, True
    for name, asked in one.tasks.items():
        opposite = other.tasks[name]
        difference = _difference(one, other, asked, opposite)
        if difference is None:
            return None
        estimate += difference.estimate
        squares += ((difference.high - difference.low) / 2) ** 2
        if len(asked.outcomes) == len(opposite.outcomes) == 1:
            test = mcnemar(*(list(map(int, x.outcomes[0])) for x in (opposite, asked)))
            lost, gained = lost + test.lost, gained + test.gained
        else:
            exact = False
    count = len(one.tasks)
    half = math.sqrt(squares) / count
    interval = Interval(estimate / count, estimate / count - half, estimate / count + half)
    shown = not interval.low <= 0 <= interval.high
    if not exact:
        return AccuracyDifference(interval, shown)
    p_value = mcnemar([1] * lost + [0] * gained, [0] * lost + [1] * gained).p_value
    return AccuracyDifference(interval, shown and p_value < 0.05, p_value)


def accuracy_shortfall(one: Answered, other: Answered, share: float) -> Interval | None:
    """``share`` of ``other``'s mean accuracy minus ``one``'s; ``None`` where items differ.

    Where few answers changed, or none, they say little of how many would among other items: the
    half-width is that of the items with one lost and one gained beside them (Bonett and Price,
    Journal of Educational and Behavioral Statistics 37, 2012).
    """
    import numpy as np

    asked = {name: task.items_sha256 for name, task in one.tasks.items()}
    if asked != {name: task.items_sha256 for name, task in other.tasks.items()}:
        return None
    if (one.base, one.arithmetic) != (other.base, other.arithmetic) or None in asked.values():
        return None
    estimate, squares, count = 0.0, 0.0, len(asked)
    for name in asked:
        sides = one.tasks[name].outcomes, other.tasks[name].outcomes
        if not all(sides):
            return None
        x, y = (
            _matrix(tuple(f"{row}{added}" for row in side))
            for side, added in zip(sides, ("01", "10"), strict=True)
        )
        own = _contrast(share * y, x, other.draws, one.draws)
        squares += ((own.high - own.low) / 2) ** 2
        estimate += share * float(np.mean(y[:, :-2])) - float(np.mean(x[:, :-2]))
    half = math.sqrt(squares) / count
    return Interval(estimate / count, estimate / count - half, estimate / count + half)


def _difference(one: Answered, other: Answered, a: TaskScore, b: TaskScore) -> Interval | None:
    known = a.items_sha256 is not None and a.items_sha256 == b.items_sha256
    if known and a.outcomes and b.outcomes:
        return _contrast(_matrix(a.outcomes), _matrix(b.outcomes), one.draws, other.draws)
    if a.items_sha256 != b.items_sha256 or a.baseline != b.baseline:
        return None
    if a.half is None or b.half is None:
        return None
    half = a.half + b.half
    return Interval(a.value - b.value, a.value - b.value - half, a.value - b.value + half)


def _contrast(
    x: "NDArray[np.float64]",
    y: "NDArray[np.float64]",
    draws: tuple[str, ...],
    others: tuple[str, ...],
) -> Interval:
    """Of ``x - y``, each of shape (draws, items)."""
    import numpy as np

    sizes = np.ones(x.shape[1])
    if len(x) == len(y) > 1 and sorted(draws) == sorted(others):
        return crossed_interval(x - y[[others.index(draw) for draw in draws]], sizes)
    if len(y) > 1:
        return crossed_interval(x, sizes, y)
    return crossed_interval(x - y, sizes)


def _matrix(outcomes: tuple[str, ...]) -> "NDArray[np.float64]":
    import numpy as np

    return np.array([[float(one) for one in row] for row in outcomes])
