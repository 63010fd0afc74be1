"""What each recipe loses on each task, on the same items as the unquantized model.

The intervals of all differences of a model in an engine hold together in 95% of measurements:
Bonferroni's bound over tasks, whose items are independent, and within a task that of the largest
|t| over recipes, which share its items (``runner.evaluation.metrics.simultaneous``). Their widths
are those of the items with one lost and one gained beside them, since few changed answers, or none,
say little of other items (Bonett and Price, Journal of Educational and Behavioral Statistics 37,
2012). McNemar's exact p-values are corrected by Holm's procedure (Scandinavian Journal of
Statistics 6, 1979) over the same differences.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runner.evaluation.metrics.paired import mcnemar
from runner.evaluation.metrics.simultaneous import simultaneous
from runner.evaluation.metrics.statistics import Interval, mean_interval
from runner.reporting.quality.answered import Answered, TaskScore, answered
from runner.reporting.quality.evaluated import first_evaluation, seed_of
from runner.reporting.quality.floors import answered_floors, floor_of
from runner.reporting.quality.paired import divergence
from runner.store.records import BASELINE, RECIPE, RunRecord, Status

_LEVEL = 0.95


@dataclass(frozen=True)
class Subject:
    """A recipe in an engine, by what it answered."""

    model: str
    engine: str
    recipe: str
    answers: Answered
    kl_divergence: float | None
    """From the unquantized model on the evaluation text, in nats; ``None`` where not measured."""
    floors: Mapping[str, float]
    """By metric and task, what arithmetic alone may do to the share of right answers."""


@dataclass(frozen=True)
class Loss:
    """One recipe's share of right answers on one task, less the unquantized model's."""

    model: str
    engine: str
    recipe: str
    task: str
    items: int
    unquantized: float
    value: float
    difference: Interval
    """Simultaneous over the recipes and tasks of a model and engine, at 95%."""
    lost: int
    """Items that only the unquantized model gets right."""
    gained: int
    """Items that only the recipe gets right."""
    p_value: float
    """McNemar's exact test, corrected for the number of differences by Holm's procedure."""
    kl_divergence: float | None
    floor: float = 0.0
    """The largest difference that arithmetic alone may make; 0 where it was not measured."""

    @property
    def shown(self) -> bool:
        """Whether there is a difference: by the interval, by the test, and above the floor."""
        is_sure = not self.difference.low <= 0 <= self.difference.high and self.p_value < 1 - _LEVEL
        return is_sure and not self.within_floor

    @property
    def within_floor(self) -> bool:
        """Whether arithmetic alone may be what differs."""
        return 0 < abs(self.difference.estimate) <= self.floor


def losses(records: Sequence[RunRecord]) -> list[Loss]:
    """Every difference of recipe and task, group by group of model and engine."""
    groups: dict[tuple[str, str], list[tuple[Subject, Answered]]] = {}
    labels = Counter((record.model, record.engine, record.label) for record in records)
    for record in records:
        several = labels[record.model, record.engine, record.label] > 1
        if (pair := _pair(record, several=several)) is not None:
            groups.setdefault((record.model, record.engine), []).append(pair)
    return [loss for group in groups.values() for loss in _of_group(group)]


def _pair(record: RunRecord, *, several: bool) -> tuple[Subject, Answered] | None:
    """A recipe, one of ``several`` draws or the only one, and the unquantized model beside it."""
    if record.status is not Status.ok:
        return None
    own, base = answered(record, RECIPE), answered(record, BASELINE)
    if own is None or base is None:
        return None
    evaluated = first_evaluation(record, RECIPE)
    has_divergence = evaluated is not None and evaluated.divergences
    kl = divergence(evaluated).estimate if evaluated is not None and has_divergence else None
    name = f"{record.label}, seed {seed_of(record)}" if several else record.label
    floors = {
        task: floor_of(record, tasks=[task]).task_accuracy or 0.0
        for task in (own.tasks if answered_floors(record) else ())
    }
    return Subject(record.model, record.engine, name, own, kl, floors), base


def _of_group(group: Sequence[tuple[Subject, Answered]]) -> list[Loss]:
    names = list(dict.fromkeys(name for subject, _ in group for name in subject.answers.tasks))
    found = [loss for name in names for loss in _of_task(name, group, len(names))]
    return list(_corrected(found))


def _of_task(name: str, group: Sequence[tuple[Subject, Answered]], tasks: int) -> Iterator[Loss]:
    """One task's differences; recipes that were asked other items are left out of its family."""
    import numpy as np

    families: dict[str | None, list[tuple[Subject, TaskScore, TaskScore]]] = {}
    for subject, base in group:
        own, before = subject.answers.tasks.get(name), base.tasks.get(name)
        if own is None or before is None or len(own.outcomes) != 1 or len(before.outcomes) != 1:
            continue
        if own.items_sha256 is not None and own.items_sha256 == before.items_sha256:
            families.setdefault(own.items_sha256, []).append((subject, own, before))
    task = name.partition("/")[2]
    floor = max(subject.floors.get(name, 0.0) for subject, _ in group)
    for family in families.values():
        rows = np.array(
            [[*_changes(own, before), 1.0, -1.0] for _, own, before in family], np.float64
        )
        # The items' own means: the two beside them cancel, but for their number.
        intervals = [_around(sum(row[:-2]) / (len(row) - 2), mean_interval(row)) for row in rows]
        level = 1 - (1 - _LEVEL) / tasks
        together = simultaneous(intervals, rows, level)
        for (subject, own, before), interval in zip(family, together, strict=True):
            test = mcnemar(_numbers(before), _numbers(own))
            yield Loss(
                model=subject.model,
                engine=subject.engine,
                recipe=subject.recipe,
                task=task,
                items=len(own.outcomes[0]),
                unquantized=before.value,
                value=own.value,
                difference=interval,
                lost=test.lost,
                gained=test.gained,
                p_value=test.p_value,
                kl_divergence=subject.kl_divergence,
                floor=floor,
            )


def _corrected(found: Sequence[Loss]) -> Iterator[Loss]:
    """By Holm: the smallest p-value times their number, the next times one less, never falling."""
    order = sorted(range(len(found)), key=lambda place: found[place].p_value)
    corrected, largest = [0.0] * len(found), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, found[place].p_value * (len(found) - rank)))
        corrected[place] = largest
    for loss, p_value in zip(found, corrected, strict=True):
        yield replace(loss, p_value=p_value)


def _around(estimate: float, interval: Interval) -> Interval:
    half = interval.high - interval.estimate
    return Interval(estimate, estimate - half, estimate + half)


def _numbers(score: TaskScore) -> list[int]:
    return [int(outcome) for outcome in score.outcomes[0]]


def _changes(own: TaskScore, before: TaskScore) -> list[int]:
    return [new - old for new, old in zip(_numbers(own), _numbers(before), strict=True)]
