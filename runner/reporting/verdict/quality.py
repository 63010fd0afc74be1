"""The best in quality among rows: measure by measure, until one is ahead.

First perplexity. Of those that it does not tell from the best, KL divergence from the unquantized
model, which varies less over the text, then the share of right answers. Whoever is still left is
not told apart by anything that was measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.reporting.rows import Row
from runner.reporting.told_apart import Contrast, Contrasts
from runner.reporting.verdict.verdict import Tie


@dataclass(frozen=True)
class Measure:
    """A figure that quality is judged by."""

    field: str
    """Of a row."""
    what: str
    """As in ``are not told apart by``."""
    shown: Callable[[float], str]
    contrast: Callable[[Contrasts], Callable[[Row, Row], Contrast | None]]
    sign: int = 1
    """-1 where more is better."""

    def value(self, row: Row) -> float | None:
        """Of a row; the unquantized model does not diverge from itself."""
        found: float | None = getattr(row, self.field)
        return 0.0 if found is None and row.is_baseline and self.field == _KL else found

    def cost(self, row: Row) -> float:
        """Less is better; infinite where it is not known."""
        found = self.value(row)
        return float("inf") if found is None else self.sign * found

    def shown_worse(self, contrasts: Contrasts, row: Row, best: Row) -> bool:
        """Whether a row is shown to be worse than the best by it."""
        found = self.contrast(contrasts)(row, best)
        return found is not None and found.shown and self.sign * found.interval.estimate > 0


_KL = "kl_divergence"
MEASURES = (
    Measure("perplexity", "perplexity", "{:.3f}".format, lambda one: one.perplexity),
    Measure(_KL, "KL divergence", "{:.3g}".format, lambda one: one.divergence),
    Measure("task_accuracy", "task accuracy", "{:.3f}".format, lambda one: one.accuracy, -1),
)


@dataclass(frozen=True)
class Step:
    """What one measure said."""

    measure: Measure
    best: Row
    alike: list[Row]
    """Not told from the best, which is not among them."""
    worse: list[Row]
    """Shown to be worse."""


def steps(rows: Sequence[Row], contrasts: Contrasts) -> list[Step]:
    """Measure by measure what is left, as long as that is more than one row.

    A measure that one of those left lacks says nothing of them.
    """
    left, said = list(rows), []
    for measure in MEASURES:
        if len(left) < 2:
            break
        if any(measure.value(row) is None for row in left):
            continue
        best = min(left, key=measure.cost)
        worse = [
            row
            for row in sorted(left, key=measure.cost)
            if row is not best and measure.shown_worse(contrasts, row, best)
        ]
        lost = {id(row) for row in worse} | {id(best)}
        alike = sorted((row for row in left if id(row) not in lost), key=measure.cost)
        said.append(Step(measure, best, alike, worse))
        left = [best, *alike]
    return said


def left_by(rows: Sequence[Row], said: Sequence[Step]) -> list[Row]:
    """The rows that are not shown to be worse than another, the best by the last measure first."""
    return [said[-1].best, *said[-1].alike] if said else list(rows)


def tie(step: Step, contrasts: Contrasts, name: Callable[[Row], str]) -> Tie | None:
    """What a measure left open, and how much more text or items would tell; ``None``: nothing."""
    if not step.alike:
        return None
    found = {name(row): step.measure.contrast(contrasts)(row, step.best) for row in step.alike}
    return Tie(
        measure=step.measure.field,
        best=name(step.best),
        alike=[name(row) for row in step.alike],
        needed={one: None if c is None else c.needed_clusters for one, c in found.items()},
        unit=next((c.unit for c in found.values() if c is not None), "windows"),
    )
