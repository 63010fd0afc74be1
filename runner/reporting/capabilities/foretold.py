"""Whether KL divergence ranks recipes as their losses on tasks do."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.evaluation.metrics.rank import rank_correlation
from runner.evaluation.metrics.statistics import Interval
from runner.reporting.capabilities.losses import Loss

ALL_TASKS = "mean of all"


@dataclass(frozen=True)
class Foretold:
    """Rank correlation of KL divergence with the loss on a task, over the recipes of a model."""

    model: str
    engine: str
    task: str
    recipes: int
    correlation: Interval | None
    """Spearman's, with a 95% interval that takes recipes as the units; ``None`` where there are
    fewer than four, or none loses more than another."""

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.correlation is None:
            return "cannot tell"
        if self.correlation.low > 0:
            return "KL foretells it"
        return "KL misleads" if self.correlation.high < 0 else "cannot tell"


def foretold(losses: Sequence[Loss]) -> list[Foretold]:
    """Of every task, and of the mean over tasks of each recipe that was asked all of them."""
    found = []
    for model, engine in dict.fromkeys((one.model, one.engine) for one in losses):
        own = [one for one in losses if (one.model, one.engine) == (model, engine)]
        own = [one for one in own if one.kl_divergence is not None]
        tasks = list(dict.fromkeys(one.task for one in own))
        for task in tasks:
            pairs = [(one.kl_divergence, one.unquantized - one.value)
                     for one in own if one.task == task]  # fmt: skip
            found.append(_of(model, engine, task, pairs))
        if len(tasks) > 1:
            found.append(_of(model, engine, ALL_TASKS, _means(own, len(tasks))))
    return found


def _means(losses: Sequence[Loss], tasks: int) -> list[tuple[float | None, float]]:
    by_recipe: dict[str, list[Loss]] = {}
    for one in losses:
        by_recipe.setdefault(one.recipe, []).append(one)
    return [
        (some[0].kl_divergence, sum(one.unquantized - one.value for one in some) / tasks)
        for some in by_recipe.values()
        if len(some) == tasks
    ]


def _of(
    model: str, engine: str, task: str, pairs: Sequence[tuple[float | None, float]]
) -> Foretold:
    known = [(kl, loss) for kl, loss in pairs if kl is not None]
    correlation = rank_correlation([kl for kl, _ in known], [loss for _, loss in known])
    return Foretold(model, engine, task, len(known), correlation)
