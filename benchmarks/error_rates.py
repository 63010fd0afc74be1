"""How often intervals hold together, and how often gates err, by simulation from stored losses.

``python -m benchmarks.error_rates``: draws articles from ``tests/unit/data/article_losses.json``,
one window of each, as an evaluation does, and judges what is known to be true of the whole. Two
minutes on one core.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from runner.evaluation.metrics.noninferiority import Outcome, against_limit, outcomes, overall
from runner.evaluation.metrics.simultaneous import pairwise_widening
from runner.evaluation.metrics.statistics import mean_interval
from runner.evaluation.metrics.student import student_975

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOSSES = Path("tests/unit/data/article_losses.json")
QUANTITIES = ("log perplexity", "KL divergence")
ARTICLES = (8, 16, 32)
LIMITS = ((1.0, 0.0), (1.01, 0.01), (1.02, 0.02), (1.05, 0.05))
"""Of the perplexity ratio and of the increase of KL divergence in nats."""


def stored() -> tuple[list[str], "dict[str, NDArray[np.float64]]"]:
    """Recipes, and by quantity what each was in every window: (recipes, articles, windows)."""
    import numpy as np

    content = json.loads(_LOSSES.read_text("utf-8"))
    values = np.array([article["windows"] for article in content["articles"]])
    return content["recipes"], {
        QUANTITIES[0]: np.moveaxis(values[:, :, 1::2], -1, 0),
        QUANTITIES[1]: np.moveaxis(values[:, :, 2::2], -1, 0),
    }


def different(recipes: list[str]) -> list[int]:
    """Places of the recipes that are not the same made again from another seed."""
    return [place for place, name in enumerate(recipes) if "seed=" not in name or "seed=0" in name]


def samples(
    values: "NDArray[np.float64]", articles: int, draws: int, seed: int
) -> "Iterator[NDArray[np.float64]]":
    """Evaluations: one window each of articles drawn with replacement, the same of every recipe."""
    import numpy as np

    generator = np.random.default_rng(seed)
    for _ in range(draws):
        chosen = generator.integers(0, values.shape[1], articles)
        yield values[:, chosen, generator.integers(0, values.shape[2], articles)]


def coverage(
    values: "NDArray[np.float64]", articles: int, draws: int
) -> tuple[float, float, float]:
    """Of all pairwise differences: share of draws in which each and in which all intervals hold.

    Args:
        values: Of shape (recipes, articles, windows).
        articles: Articles of an evaluation.
        draws: Evaluations.

    Returns:
        A single interval's coverage, that of all of them without widening, and with it.
    """
    import numpy as np

    pairs = list(itertools.combinations(range(len(values)), 2))
    truth = values.mean(axis=(1, 2))
    true = np.array([truth[a] - truth[b] for a, b in pairs])
    single, plain, together = 0.0, 0, 0
    for means in samples(values, articles, draws, seed=articles):
        differences = np.array([means[a] - means[b] for a, b in pairs])
        off = np.abs(differences.mean(axis=1) - true)
        # As ``mean_interval``, of all at once.
        error = differences.std(axis=1, ddof=1) / math.sqrt(articles)
        half = student_975(articles - 1) * error
        single += float((off <= half).mean())
        plain += bool((off <= half).all())
        together += bool((off <= pairwise_widening(means) * half).all())
    return single / draws, plain / draws, together / draws


def gate_rates(
    several: "dict[str, NDArray[np.float64]]",
    limits: tuple[float, float],
    pairs: int,
    *,
    at_limit: bool = False,
    alpha: float = 0.05,
    articles: int = 16,
) -> tuple[dict[str, float], float]:
    """What the gate and a rule of point estimates say of a recipe made again.

    The same recipe from two calibration seeds, with what the two differ by over the whole text
    taken off: in truth nothing has changed. With ``at_limit`` the first is as much worse as is not
    tolerated any more.

    Returns:
        Share of pairs by the gate's outcome, and those that fail by point estimates.
    """
    import numpy as np

    generator = np.random.default_rng(0)
    losses = (math.log(limits[0]), limits[1])
    said: list[Outcome] = []
    point = 0
    for _ in range(pairs):
        seeds = generator.permutation(len(several[QUANTITIES[0]]))[:2]
        chosen = generator.integers(0, several[QUANTITIES[0]].shape[1], articles)
        windows = generator.integers(0, several[QUANTITIES[0]].shape[2], articles)
        tests = []
        for name, limit in zip(QUANTITIES, losses, strict=True):
            one, other = several[name][seeds]
            change = one - other - (one - other).mean() + (limit if at_limit else 0.0)
            interval = mean_interval(change[chosen, windows])
            tests.append(against_limit(interval, limit, articles - 1, alpha))
        said.append(overall(outcomes(tests, alpha)))
        point += any(test.loss > test.limit for test in tests)
    return {one.value: said.count(one) / pairs for one in Outcome}, point / pairs


def measure(tell: Callable[[str], None] = print) -> None:
    """Print the tables of docs/measurements.md."""
    recipes, values = stored()
    apart = different(recipes)
    tell(f"all pairs of {len(apart)} recipes: one interval, all of them, all of them widened")
    for name, articles in itertools.product(QUANTITIES, ARTICLES):
        shares = " | ".join(
            f"{share:.1%}" for share in coverage(values[name][apart], articles, 2000)
        )
        tell(f"| {name} | {articles} | {shares} |")
    again = [place for place, recipe in enumerate(recipes) if "seed=" in recipe]
    alike = {name: values[name][again] for name in QUANTITIES}
    for pairs, at_limit in ((200, False), (10_000, False), (10_000, True)):
        truth = "at both limits" if at_limit else "no change"
        tell(f"{pairs:,} pairs of one recipe's seeds, in truth {truth}: gate, point estimates")
        for limits in LIMITS:
            said, point = gate_rates(alike, limits, pairs, at_limit=at_limit)
            shares = " | ".join(f"{share:.1%}" for share in (*said.values(), point))
            tell(f"| {limits[0]:g}, {limits[1]:g} | {shares} |")


if __name__ == "__main__":
    measure()
