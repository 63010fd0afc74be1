"""What stands behind the quality in an answer: sentences for beneath a table, a page, Markdown."""

from collections.abc import Sequence

from runner.answer.floor import at_floor
from runner.answer.rows import Row
from runner.metrics.sample import describe
from runner.store.records import Status

_NAMED = 3
"""Recipes that a sentence lists; more are counted."""
STAR = (
    "★ best trade-offs: a row that is larger than another has one only where it is shown to be "
    "faster or better: the 95% interval of their difference does not hold zero."
)


def quality_notes(rows: list[Row]) -> list[str]:
    """What intervals speak of, where the evaluated tokens come from, and what arithmetic does.

    Args:
        rows: Of one model.
    """
    rows = [row for row in rows if row.status == Status.ok.value]
    return [*_sampling(rows), *_draws(rows), *_floor(rows)]


def alike(rows: Sequence[Row]) -> str:
    """Names of rows, the first few of many."""
    names = list(dict.fromkeys(row.recipe for row in rows))
    left = len(names) - _NAMED
    if left < 2:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {left} more"


def _sampling(rows: list[Row]) -> list[str]:
    """One sentence for each sample; of rows that share one, that whose windows are most alike."""
    samples: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.sample is not None and not row.is_floor:
            where = (row.text or "", row.perplexity_protocol or "", row.sample.tokens_sha256)
            samples.setdefault(where, []).append(row)
    found = []
    for (text, protocol, _), own in samples.items():
        compared = [row for row in own if not row.is_baseline] or own
        least = min(compared, key=lambda row: row.effective_windows or float("inf"))
        assert least.sample is not None
        said = describe(least.sample, least.icc, least.effective_windows)
        if said is not None:
            of = f"{protocol} of {text}: " if len(samples) > 1 else ""
            found.append(f"{of}{said}.")
    return found


def _draws(rows: list[Row]) -> list[str]:
    found = []
    several = [row for row in rows if (row.seeds or 0) > 1]
    single = [row for row in rows if row.seeds == 1 and row.perplexity is not None]
    if several:
        counts = " or ".join(str(count) for count in sorted({row.seeds or 0 for row in several}))
        found.append(
            f"{alike(several)}: {counts} seeds of calibration; intervals hold what they do beside "
            "what the text does (crossed random effects). Sizes and speeds are means."
        )
    if single:
        found.append(
            f"{alike(single)}: one draw of the calibration text; the interval speaks of the "
            "evaluated text alone, not of other seeds (calibration.seed=0,1,2,3 asks them)."
        )
    return found


def _floor(rows: list[Row]) -> list[str]:
    floors = [row for row in rows if row.is_floor and row.kl_divergence is not None]
    found = [
        f"{row.recipe}: what the arithmetic does without any recipe, KL divergence "
        f"{row.kl_divergence:.4f}; no difference below it is told apart."
        for row in floors
    ]
    if any(at_floor(row) for row in rows):
        found.append("≤ a KL divergence that arithmetic alone may have made.")
    return found
